"""References become rows that recipes read and graders accept."""

import json
from collections import Counter
from pathlib import Path

import pytest

from specialists.evaluation.tasks.commonsenseqa import CommonsenseQA
from specialists.training.data import read_source
from specialists.training.recipe import Source
from specialists.training.references import main, make_references

LABELS = "ABCDE"


def commonsense_row(number: int) -> dict[str, object]:
    choices = [{"label": label, "text": f"thing {number} {label}"} for label in LABELS]
    question = {"stem": f"What is {number}?", "choices": choices}
    return {"answerKey": "A", "id": str(number), "question": question}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "commonsenseqa").mkdir(parents=True)
    rows = [json.dumps(commonsense_row(number)) for number in range(40)]
    (folder / "commonsenseqa/train_rand_split.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> CommonsenseQA:
    monkeypatch.setattr(CommonsenseQA, "files", {"train": ("commonsenseqa/train_rand_split.jsonl",)})
    monkeypatch.setattr(CommonsenseQA, "val_share", 0.0)
    return CommonsenseQA("train")


def test_positions_are_balanced_and_the_grader_agrees(task: CommonsenseQA, data: Path):
    items = task.load(data)
    assert {item.letter for item in items} == {"A"}
    rows = make_references(task, items, seed=20)
    assert Counter(row["completion"] for row in rows) == dict.fromkeys(LABELS, 8)
    for row in rows:
        number = row["id"].rsplit("/", 1)[1]
        assert f"{row['completion']}. thing {number} A" in row["prompt"]
    assert make_references(task, items, seed=20) == rows
    assert make_references(task, items, seed=21) != rows


def test_a_recipe_reads_what_the_command_writes(task: CommonsenseQA, data: Path, tmp_path: Path):
    out = tmp_path / "rows.jsonl"
    arguments = ["--task", "commonsenseqa", "--data", str(data), "--out", str(out), "--limit", "10"]
    assert main(arguments) == 0
    rows = read_source(Source(path="rows.jsonl", templates=("{prompt}",)), [tmp_path], seed=20)
    assert len(rows) == 10
    assert all(row.completion in LABELS for row in rows)
    report = json.loads((tmp_path / "rows.yield.json").read_text())
    assert report["frequent_completions"] == dict.fromkeys(LABELS, 2)


def test_a_task_without_references_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--task", "humaneval", "--data", str(tmp_path), "--out", str(tmp_path / "rows.jsonl")]
    assert main(arguments) == 1
    assert "no 'train' split" in capsys.readouterr().err
    assert not (tmp_path / "rows.jsonl").exists()
