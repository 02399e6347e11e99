"""The card says what the reports say, and refuses reports that do not belong together."""

import json
from pathlib import Path
from typing import Any

import pytest

from specialists.evaluation.card import CardError, main, read_pair, score_row


def report(adapter: str | None, correct: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "task": "gsm8k",
        "split": "test",
        "model": "base",
        "adapter": adapter,
        "num_items": 10,
        "accuracy": len(correct) / 10,
        "interval": [0.1, 0.4],
        "format_adherence": 0.5,
        "num_tokens": 1000,
        "seed": 20,
        "correct": correct,
        "machine": "a machine",
        "commit": "abc",
        "date": "2026-11-22T10:00:00",
        **changes,
    }


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    base, specialist = tmp_path / "base.json", tmp_path / "specialist.json"
    base.write_text(json.dumps(report(None, ["1", "2"])))
    specialist.write_text(json.dumps(report("math", ["2", "3", "4", "5"])))
    return base, specialist


def test_row_holds_both_and_the_paired_difference(files: tuple[Path, Path]):
    row = score_row(read_pair(files))
    assert "| gsm8k/test (10) | 20.0% [10.0, 40.0] | 40.0% [10.0, 40.0] | +20.0 [" in row


def test_where_a_task_gives_credit_the_difference_is_of_it(files: tuple[Path, Path]):
    base, specialist = files
    base.write_text(json.dumps(report(None, ["1"], score=0.15, scores={"1": 1.0, "2": 0.5})))
    specialist.write_text(
        json.dumps(report("x", ["1"], score=0.35, scores={"1": 1.0, "2": 1.0, "3": 0.5, "4": 1.0}))
    )
    row = score_row(read_pair(files))
    assert "10.0% [10.0, 40.0], score 15.0 | 10.0% [10.0, 40.0], score 35.0 | +20.0 [" in row


@pytest.mark.parametrize("changes", [{"task": "mbpp"}, {"num_items": 9}, {"model": "other"}])
def test_refuses_reports_of_different_measurements(files: tuple[Path, Path], changes: dict[str, Any]):
    base, specialist = files
    specialist.write_text(json.dumps(report("math", ["1"], **changes)))
    with pytest.raises(CardError, match=next(iter(changes))):
        read_pair([base, specialist])


def test_a_specialist_measured_alone_has_no_difference(files: tuple[Path, Path]):
    row = score_row(read_pair(files[1:]))
    assert row == "| gsm8k/test (10) |  | 40.0% [10.0, 40.0] |  |  | 50.0% |  | 100 |"


def test_refuses_the_wrong_order(files: tuple[Path, Path]):
    with pytest.raises(CardError, match="base's report first"):
        read_pair([files[1], files[0]])


def test_writes_card_scores_and_manifest(files: tuple[Path, Path], tmp_path: Path):
    folder = tmp_path / "math"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "math", "description": "Sums.", "seed": 20}')
    facts = {"machine": "a machine", "num_train_rows": 5, "num_steps": 2}
    (folder / "training.json").write_text(json.dumps(facts))
    about = tmp_path / "about.md"
    about.write_text("From somewhere.")
    arguments = [str(folder), "--about", str(about), "--report", *map(str, files)]
    assert main(arguments) == 0
    card = (folder / "README.md").read_text()
    assert "From somewhere." in card and "+20.0" in card and "5 rows, 2 steps" in card
    assert json.loads((folder / "manifest.json").read_text())["scores"] == {"gsm8k/test": 0.4}
    assert main([str(tmp_path / "nowhere"), *arguments[1:]]) == 1
