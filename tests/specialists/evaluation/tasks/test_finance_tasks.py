"""TAT-QA and ConvFinQA: contexts, references the grader accepts, conversations."""

from pathlib import Path
from typing import Any

import pytest

from specialists.evaluation.tasks.convfinqa import ConvFinQA
from specialists.evaluation.tasks.tatqa import TatQA
from tests.specialists.evaluation.tasks.rows import write_json, write_jsonl

TABLE = [["", "2019", "2018"], ["Sales", "$ 1,200", "(1,000)"]]


def tatqa_row(table: list[list[str]]) -> dict[str, Any]:
    def ask(question: str, answer: Any, kind: str, scale: str = "", derivation: str = "") -> dict[str, Any]:
        return {
            "question": question,
            "answer": answer,
            "answer_type": kind,
            "scale": scale,
            "derivation": derivation,
        }

    return {
        "table": {"table": table},
        "paragraphs": [{"order": 2, "text": "Second."}, {"order": 1, "text": "First."}],
        "questions": [
            ask("By how much did sales change?", 20.0, "arithmetic", "percent", "(1,200-1,000)/1,000"),
            ask("What years?", ["2019", "2018"], "multi-span"),
            ask("How many years?", "2", "count", "", "2019##2018"),
            ask("Which sales?", ["1,200"], "span", "million"),
        ],
    }


@pytest.fixture
def tatqa(tmp_path: Path) -> Path:
    write_jsonl(tmp_path, "tatqa/test_gold_even.jsonl", [tatqa_row(TABLE)])
    return tmp_path


def test_tatqa_shows_table_text_and_question(tatqa: Path):
    items = TatQA().load(tatqa)
    content = TatQA().prompt(items[0])[0]["content"]
    expected = (
        "| 2019 | 2018\nSales | $ 1,200 | (1,000)\n\nFirst.\nSecond.\n\nBy how much did sales change?\n\n"
    )
    assert content.startswith(expected)


def test_tatqa_references_are_right_and_well_formed(tatqa: Path):
    task = TatQA()
    items = task.load(tatqa)
    references = [task.reference(item) for item in items]
    assert references == [
        "1,200 - 1,000 = 200\n200 / 1,000 = 0.2\nAnswer: 20.0 percent",
        "Answer: 2019; 2018",
        "Answer: 2",
        "Answer: 1,200 million",
    ]
    for item, reference in zip(items, references, strict=True):
        grade = task.grade(item, reference)
        assert (grade.correct, grade.well_formed, grade.score) == (True, True, 1.0)


def test_tatqa_gives_credit_to_spans_only(tatqa: Path):
    task = TatQA()
    change, years, count, _ = task.load(tatqa)
    assert task.grade(years, "Answer: 2019").score == 0.67
    assert task.grade(change, "Answer: 20").score == 0.0
    assert task.grade(change, "The answer is 20%.").correct
    assert not task.grade(change, "The answer is 20%.").well_formed
    assert task.grade(count, "Answer: 3").score == 0.0
    assert task.grade(count, "").extracted is None
    assert (
        task.rewrite(years, "The table says so.\nThe answer is 2018; 2019.")
        == "The table says so.\nAnswer: 2019; 2018"
    )


def test_tatqa_trains_on_no_table_of_the_test(tatqa: Path):
    other = [["", "2011"], ["Costs", "3"]]
    write_json(tatqa, "tatqa/tatqa_dataset_dev.json.gz", [tatqa_row(TABLE), tatqa_row(other)])
    items = TatQA("train").load(tatqa) + TatQA("val").load(tatqa)
    assert {item.context.split("\n")[1] for item in items} == {"Costs | 3"}


def conversation() -> dict[str, Any]:
    return {
        "id": "Single_MRO/2007/page_134.pdf-1",
        "questions": ["what was it in 2007?", "and in 2005?", "and the change in percent?"],
        "programs": ["ans = 60.94", "ans = 25.14", "x0 = 60.94 - 25.14; ans = x0 / 25.14"],
        "answer": 1.42403,
        "text": "the price was given . nothing more .",
        "table": "- | 2007 | 2005\nprice | $ 60.94 | $ 25.14\n",
    }


def test_convfinqa_turns(tmp_path: Path):
    write_json(tmp_path, "convfinqa/convfinqa_dev.json.gz", [conversation()])
    items = ConvFinQA("train").load(tmp_path) + ConvFinQA("val").load(tmp_path)
    assert [item.category for item in items] == ["turn 1", "turn 2", "turn 3"]
    task = ConvFinQA()
    messages = task.prompt(items[2])
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"].startswith("| 2007 | 2005\nprice")
    assert messages[1]["content"] == "Answer: 60.94"
    assert messages[4]["content"].startswith("and the change in percent?\n\n")
    assert task.reference(items[2]) == "60.94 - 25.14 = 35.8\n35.8 / 25.14 = 1.42403\nAnswer: 1.42403"


@pytest.mark.parametrize(
    ("text", "correct"),
    [("Answer: 1.42403", True), ("Answer: 1.424", True), ("Answer: 142.4%", True), ("Answer: 1.5", False),
     ("I do not know", False), ("", False)],
)  # fmt: skip
def test_convfinqa_is_graded_by_value(tmp_path: Path, text: str, correct: bool):
    write_json(tmp_path, "convfinqa/convfinqa_dev.json.gz", [conversation()])
    items = ConvFinQA("train").load(tmp_path) + ConvFinQA("val").load(tmp_path)
    assert ConvFinQA().grade(items[2], text).correct is correct
