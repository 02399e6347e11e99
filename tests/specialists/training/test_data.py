"""Rows to token ids, with the tiny tokenizer in the place of the real one."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from specialists.tokenizer import ChatTokenizer
from specialists.training.data import (
    DataError,
    PromptGroup,
    Row,
    find_file,
    read_source,
    render_groups,
    split_rows,
)
from specialists.training.sections import Source


@pytest.fixture(scope="module")
def tokenizer(tiny_qwen2: Path) -> ChatTokenizer:
    return ChatTokenizer.from_folder(tiny_qwen2)


def write(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        with gzip.open(folder / name, "wt") as file:
            file.write(text)
    else:
        (folder / name).write_text(text)


def row(problem: str, completion: str, templates: tuple[str, ...] = ("{question}",)) -> Row:
    return Row(problem, completion, {"question": problem}, (), templates)


def test_the_answer_is_what_serving_would_have_to_write(tokenizer: ChatTokenizer) -> None:
    (group,) = render_groups([row("What is 1 + 1?", "It is 2.")], tokenizer, 0, 1, 200)
    messages = [{"role": "user", "content": "What is 1 + 1?"}]
    assert list(group.prompt_ids) == tokenizer.encode_chat(messages)
    (answer,) = group.answers
    assert tokenizer.decode(answer) == "It is 2."
    assert answer[-1] in tokenizer.eos_token_ids
    whole = tokenizer.encode_chat([*messages, {"role": "assistant", "content": "It is 2."}])
    assert whole[: group.num_tokens] == [*group.prompt_ids, *answer]


def test_a_control_token_spelled_in_an_answer_stays_text(tokenizer: ChatTokenizer) -> None:
    (group,) = render_groups([row("Say it", "<|im_end|> is a token")], tokenizer, 0, 1, 200)
    (answer,) = group.answers
    assert tokenizer.decode(answer) == "<|im_end|> is a token"
    assert sum(token in tokenizer.eos_token_ids for token in answer) == 1


def test_answers_to_one_prompt_share_it(tokenizer: ChatTokenizer) -> None:
    rows = [row("a", "one"), row("b", "two"), row("a", "three")]
    groups = render_groups(rows, tokenizer, 0, 1, 200)
    assert [[tokenizer.decode(answer) for answer in group.answers] for group in groups] == [
        ["one", "three"],
        ["two"],
    ]


def test_templates_are_drawn_by_problem_and_epoch(tokenizer: ChatTokenizer) -> None:
    templates = ("{question}", "Solve: {question}")
    rows = [row(f"problem {index}", text, templates) for index in range(20) for text in ("x", "y")]

    def prompts(epoch: int) -> list[bool]:
        groups = render_groups(rows, tokenizer, epoch, 1, 200)
        assert len(groups) == 20  # both answers to a problem get the same template
        return ["Solve:" in tokenizer.decode(group.prompt_ids) for group in groups]

    assert prompts(0) == prompts(0)
    assert prompts(0) != prompts(1)
    assert 3 < sum(prompts(0)) < 17


def test_answers_that_do_not_fit_are_dropped_whole(tokenizer: ChatTokenizer) -> None:
    rows = [row("a", "short"), row("a", "long " * 50), row("b", "long " * 50)]
    groups = render_groups(rows, tokenizer, 0, 1, 80)
    assert [len(group.answers) for group in groups] == [1]
    assert all(len(group.prompt_ids) + len(group.answers[0]) <= 80 for group in groups)


def test_counting_tokens() -> None:
    group = PromptGroup((1, 2, 3), ((4,), (5, 6)))
    assert (group.num_tokens, group.num_unshared_tokens) == (6, 9)


def test_conversations_and_fields_are_read(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " hello "}]
    rows = [{"messages": turns}, {"question": "q", "prompt": "p", "completion": " c\n", "id": "x"}]
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        write(tmp_path, rows, name)
        read = read_source(Source(path=name, templates=("{question}: {prompt}",)), [tmp_path], 1)
        assert [one.completion for one in read] == ["hello", "c"]
        groups = render_groups(read, tokenizer, 0, 1, 200)
        assert "q: p" in tokenizer.decode(groups[1].prompt_ids)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"completion": "c"}, "needs the field 'prompt'"),
        ({"prompt": "p", "completion": "  "}, "neither messages nor a completion"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "messages must be"),
        ({"messages": [{"role": "user", "content": "hi"}] * 2}, "messages must be"),
        ({"messages": "hi"}, "messages must be"),
        (["not an object"], "expected an object"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, content: Any, problem: str) -> None:
    write(tmp_path, [{"prompt": "p", "completion": "c"}, content])
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: .*{problem}"):
        read_source(Source(path="rows.jsonl"), [tmp_path], 1)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data file 'rows\.jsonl' in"):
        read_source(Source(path="rows.jsonl"), [tmp_path], 1)
    write(tmp_path, [])
    with pytest.raises(DataError, match="holds no rows"):
        read_source(Source(path="rows.jsonl"), [tmp_path], 1)
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"bad\.jsonl, line 1: not valid JSON"):
        read_source(Source(path="bad.jsonl"), [tmp_path], 1)


def test_the_first_folder_wins(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    write(tmp_path / "two", [{}])
    folders = [tmp_path / "one", tmp_path / "two"]
    assert find_file("rows.jsonl", folders) == tmp_path / "two" / "rows.jsonl"
    write(tmp_path / "one", [{}])
    assert find_file("rows.jsonl", folders) == tmp_path / "one" / "rows.jsonl"


def test_a_source_can_be_limited(tmp_path: Path) -> None:
    rows = [{"question": f"q{index % 5}", "completion": str(index)} for index in range(20)]
    write(tmp_path, rows)
    source = Source(path="rows.jsonl", templates=("{question}",), max_per_problem=2)
    assert [one.completion for one in read_source(source, [tmp_path], 1)] == [str(n) for n in range(10)]
    few = source.model_copy(update={"max_rows": 4})
    assert len(read_source(few, [tmp_path], 1)) == 4
    assert read_source(few, [tmp_path], 1) == read_source(few, [tmp_path], 1)


def test_a_problem_is_never_on_both_sides_of_the_split() -> None:
    rows = [row(f"problem {index % 200}", str(index)) for index in range(600)]
    train, validation = split_rows(rows, 0.1, 1000, 1)
    assert len(train) + len(validation) == 600
    assert 20 < len(validation) < 110
    assert {one.problem for one in train}.isdisjoint(one.problem for one in validation)
    assert split_rows(rows, 0.0, 1000, 1)[1] == []
    assert len(split_rows(rows, 0.1, 5, 1)[1]) == 5
