"""Solutions told in another task's form: the right ones alone, of the same rows, and errors that name the file."""

import json
from pathlib import Path

import pytest

from specialists.evaluation.tasks.gsm8k_forms import GSM8KOptions
from specialists.training.attempts import Attempt, AttemptLog
from specialists.training.other_forms import main
from tests.specialists.evaluation.tasks.rows import write_jsonl

ROWS = [{"question": f"What is {n} + {n}?", "answer": f"Add.\n#### {2 * n}"} for n in (3, 4)]


def attempt(item_id: str, value: int, *, correct: bool) -> Attempt:
    return Attempt(
        item_id=item_id,
        sample=0,
        text=f"We add the two and get {value}.\n#### {value}",
        num_tokens=9,
        is_cut=False,
        correct=correct,
        well_formed=True,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_jsonl(tmp_path, "gsm8k/train.jsonl.gz", ROWS)
    path = tmp_path / "solutions.attempts.jsonl"
    with AttemptLog(path, {"task": "gsm8k"}) as attempts:
        attempts.append(attempt("gsm8k/train/0", 6, correct=True))
        attempts.append(attempt("gsm8k/train/1", 9, correct=False))
    return path


def command(log: Path, task: str = "gsm8k_options") -> list[str]:
    data = log.parent
    return ["--task", task, "--attempts", str(log), "--data", str(data), "--out", str(data / "out.jsonl")]


def test_right_solutions_get_the_other_ending(log: Path):
    assert main(command(log)) == 0
    (row,) = [json.loads(line) for line in (log.parent / "out.jsonl").read_text().splitlines()]
    item = GSM8KOptions("train").load(log.parent)[0]
    assert row["id"] == "gsm8k_options/train/0#0"
    assert row["completion"] == f"We add the two and get 6.\nAnswer: {item.letter}"
    assert item.listed in row["prompt"]
    report = json.loads((log.parent / "out.yield.json").read_text())
    assert (report["num_right"], report["num_solutions"]) == (1, 1)


def test_attempts_of_other_rows_and_damaged_logs_are_refused(log: Path, capsys: pytest.CaptureFixture[str]):
    with AttemptLog(log, {"task": "gsm8k"}) as attempts:
        attempts.append(attempt("gsm8k/train/7", 14, correct=True))
    assert main(command(log)) == 1
    assert "no problem 'gsm8k_options/train/7'" in " ".join(capsys.readouterr().err.split())
    log.write_text('{"settings": {}}\n{"id": "gsm8k/train/0", "grade": {}}\n')
    assert main(command(log)) == 1
    assert "is not a log of attempts" in " ".join(capsys.readouterr().err.split())
    assert not (log.parent / "out.jsonl").exists()
