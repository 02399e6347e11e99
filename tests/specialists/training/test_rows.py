"""Rows from files and from tasks: options move, problems stay on their side, the hash follows the data."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from specialists.evaluation.task import TaskDataError
from specialists.evaluation.task_registry import TASKS
from specialists.training.data import DataError
from specialists.training.rows import TrainingRows
from specialists.training.sections import Source, Validation
from specialists.training.task_rows import TaskRows
from tests.specialists.training.toy_task import EarlyLetters

CHOICE = Source(task="commonsenseqa", templates=("{prompt}",))
NONE_HELD_OUT = Validation(share=0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "commonsenseqa"
    folder.mkdir()
    with gzip.open(folder / "train_rand_split.jsonl.gz", "wt") as file:
        for number in range(120):
            options = ["right", "wrong", "worse", "odd", "far"]
            choices = [
                {"label": label, "text": f"{text} {number}"}
                for label, text in zip("ABCDE", options, strict=True)
            ]
            question = {"stem": f"What is number {number}?", "choices": choices}
            file.write(json.dumps({"answerKey": "A", "question": question}) + "\n")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    return tmp_path


def test_the_right_option_is_at_each_place_equally_often_and_moves(data: Path) -> None:
    rows = TaskRows(CHOICE, [data])
    first, second = rows.rows(0, 7), rows.rows(1, 7)
    counts = Counter(row.completion for row in first)
    assert set(counts) == set("ABCDE")
    assert max(counts.values()) - min(counts.values()) <= 1
    for row in first:
        assert f"{row.completion}. right" in row.fields["prompt"]
    assert [row.problem for row in first] == [row.problem for row in second]
    assert sum(one.completion != other.completion for one, other in zip(first, second, strict=True)) > 50
    assert rows.rows(0, 7) == first


def test_templates_may_name_the_options_and_the_right_one(data: Path) -> None:
    for row in TaskRows(CHOICE, [data]).rows(0, 7):
        assert f"{row.completion}. {row.fields['answer']}" in row.fields["options"].splitlines()
        assert row.fields["question"].endswith(row.fields["options"])


def test_sources_mix_and_problems_stay_on_their_side(data: Path) -> None:
    sources = (CHOICE, Source(path="rows.jsonl"))
    rows = TrainingRows(sources, [data], Validation(share=0.3, max_rows=50), seed=7)
    validation = {row.problem for row in rows.validation}
    assert 10 < len(validation) <= 50
    for epoch in (0, 1):
        assert validation.isdisjoint(row.problem for row in rows.train(epoch))
    assert len({row.problem for row in (*rows.train(0), *rows.validation)}) > 100


def test_a_limit_takes_the_same_items_in_each_epoch(data: Path) -> None:
    few = CHOICE.model_copy(update={"max_rows": 20})
    rows = TrainingRows([few], [data], NONE_HELD_OUT, seed=7)
    assert {row.problem for row in rows.train(0)} == {row.problem for row in rows.train(1)}
    assert len(rows.train(0)) == 20


def test_a_problem_can_be_limited(data: Path) -> None:
    (data / "tatqa").mkdir()
    asked = {"answer": ["x"], "scale": "", "answer_type": "span", "derivation": ""}
    context = {
        "table": {"table": [["a", "1"]]},
        "paragraphs": [],
        "questions": [{"question": f"Which {number}?", **asked} for number in range(5)],
    }
    with gzip.open(data / "tatqa/tatqa_dataset_dev.json.gz", "wt") as file:
        json.dump([context], file)
    for most, count in ((None, 5), (2, 2)):
        source = Source(task="tatqa", max_per_problem=most)
        assert len(TrainingRows([source], [data], NONE_HELD_OUT, seed=7).train(0)) == count


def test_the_hash_follows_the_data(data: Path) -> None:
    def digest() -> str:
        sources = (CHOICE, Source(path="rows.jsonl"))
        return TrainingRows(sources, [data], NONE_HELD_OUT, seed=7).sha256()

    before = digest()
    assert digest() == before
    (data / "rows.jsonl").write_text('{"prompt": "p", "completion": "other"}\n')
    assert digest() != before


def test_the_first_folder_with_the_files_is_read_and_none_is_an_error(data: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(TaskRows(CHOICE, [empty, data]).rows(0, 7)) > 100
    with pytest.raises(TaskDataError, match="commonsenseqa/train_rand_split"):
        TaskRows(CHOICE, [empty])
    with pytest.raises(TaskDataError, match="no task 'chess'"):
        TaskRows(Source(task="chess"), [data])


def test_a_task_without_references_cannot_be_trained_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "early", EarlyLetters)
    with pytest.raises(DataError, match="early has no reference answers"):
        TrainingRows([Source(task="early")], [data], NONE_HELD_OUT, seed=7)


def test_nothing_left_to_train_on_is_an_error(data: Path) -> None:
    with pytest.raises(DataError, match="no rows are left to train on"):
        TrainingRows([Source(path="rows.jsonl")], [data], Validation(share=0.9999), seed=7)
