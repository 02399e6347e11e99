"""MATH-500 and AIME: loading, boxes, grades by value."""

from pathlib import Path

import pytest

from specialists.evaluation.task_registry import get_task
from specialists.evaluation.tasks.competition_math import MathProblem
from tests.specialists.evaluation.tasks.rows import write_jsonl


def test_splits(tmp_path: Path):
    problem = {"problem": "1+1?", "answer": "2", "subject": "Algebra", "solution": "Two."}
    write_jsonl(tmp_path, "math/math500_even.jsonl", [problem])
    (item,) = get_task("math500").load(tmp_path)
    assert (item.question, item.answer, item.category) == ("1+1?", "2", "Algebra")
    repeated = "all the roots of $z^4 - z^2 + 1 = 0$ are $n^{\\text{th}}$ roots of unity?"
    rows = [{"problem": text, "answer": "2", "subject": "Algebra"} for text in ("1+1?", repeated)]
    write_jsonl(tmp_path, "math/math_train_answers.jsonl.gz", rows)
    learned = get_task("math500", "train").load(tmp_path) + get_task("math500", "val").load(tmp_path)
    assert [one.question for one in learned] == ["1+1?"]
    row = {"problem": "Find it.", "answer": "073", "solution": "It is 73."}
    write_jsonl(tmp_path, "aime_amc/aime2024.jsonl", [row])
    (item,) = get_task("aime2024").load(tmp_path)
    assert item.answer == "73"


@pytest.mark.parametrize(
    ("text", "correct", "well_formed"),
    [
        (r"Because. \boxed{\frac12}", True, True),
        (r"Because. \boxed{\frac{1}{2}}", True, True),
        (r"The answer is $\frac{1}{2}$.", True, False),
        (r"\boxed{\frac{1}{2}", False, False),
        ("", False, False),
    ],
)
def test_grades_without_the_algebra_system(
    monkeypatch: pytest.MonkeyPatch, text: str, correct: bool, well_formed: bool
):
    def same(gold: str, answer: str) -> bool:
        return answer in (gold, r"\frac12")

    monkeypatch.setattr("specialists.evaluation.tasks.competition_math.is_equivalent", same)
    item = MathProblem("x", "1/2?", r"\frac{1}{2}")
    grade = get_task("math500").grade(item, text)
    assert (grade.correct, grade.well_formed) == (correct, well_formed)
