from pathlib import Path

import pytest

from specialists.evaluation.tasks.dolly import Dolly, rouge_l
from tests.specialists.evaluation.tasks.rows import write_jsonl

pytestmark = pytest.mark.slow  # rouge-score imports nltk


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [("the cat sat", "the cat sat", 1.0), ("cats sitting", "a cat sits", 0.8), ("dog", "cat", 0.0), ("", "cat", 0.0)],
)  # fmt: skip
def test_rouge_l(text: str, reference: str, score: float):
    assert rouge_l(text, reference) == pytest.approx(score)


def test_rows_and_grades(tmp_path: Path):
    row = {
        "instruction": " Name it. ",
        "context": "A text.",
        "response": "the big cat",
        "category": "open_qa",
    }
    write_jsonl(tmp_path, "dolly15k/databricks-dolly-15k.jsonl.gz", [row])
    task = Dolly()
    items = Dolly("train").load(tmp_path) + Dolly("val").load(tmp_path)
    assert task.prompt(items[0])[0]["content"] == "Name it.\n\nA text."
    assert task.grade(items[0], task.reference(items[0])).score == pytest.approx(1.0)
    empty = task.grade(items[0], " ")
    assert (empty.correct, empty.well_formed) == (False, False)
