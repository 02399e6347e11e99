"""Which rows a split reads, what is held out, and how damaged data is named."""

import json
from pathlib import Path

import pytest

from specialists.evaluation.file_task import is_held_out
from specialists.evaluation.task import TaskDataError
from specialists.evaluation.task_registry import TASKS
from specialists.evaluation.tasks.winogrande import Winogrande


def row(pair: int, twin: int) -> dict[str, str]:
    sentence = f"Ann gave Bea {pair} because _ asked {twin}."
    return {
        "qID": f"PAIR{pair}-{twin}",
        "sentence": sentence,
        "option1": "Ann",
        "option2": "Bea",
        "answer": "2",
    }


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Winogrande, "files", {"train": ("train.jsonl",), "test": ("dev.jsonl",)})
    monkeypatch.setattr(Winogrande, "val_share", 0.3)
    rows = [row(pair, twin) for pair in range(60) for twin in (1, 2)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (tmp_path / "dev.jsonl").write_text(json.dumps(row(99, 1)))
    return tmp_path


def test_groups_are_held_out_whole(data: Path):
    train = Winogrande("train").load(data)
    val = Winogrande("val").load(data)
    assert len(train) + len(val) == 120
    assert 20 < len(val) < 56
    numbers = [{int(item.id.rsplit("/", 1)[1]) // 2 for item in items} for items in (train, val)]
    assert not numbers[0] & numbers[1]
    assert [item.id for item in Winogrande("test").load(data)] == ["winogrande/test/0"]


def test_holding_out_does_not_depend_on_other_rows(data: Path):
    before = {item.stem for item in Winogrande("val").load(data)}
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("\n".join(reversed(lines[:60])))
    assert {item.stem for item in Winogrande("val").load(data)} < before


def test_the_share_is_about_what_was_asked():
    assert 400 < sum(is_held_out(str(number), 0.1) for number in range(5000)) < 600
    assert not any(is_held_out(str(number), 0.0) for number in range(100))


def test_damage_is_named(data: Path):
    (data / "dev.jsonl").write_text(json.dumps(row(1, 1)) + '\n{"qID": "x"}\n')
    with pytest.raises(TaskDataError, match=r"dev\.jsonl, row 1: not as expected \(KeyError"):
        Winogrande().load(data)
    (data / "dev.jsonl").write_text(json.dumps({**row(1, 1), "answer": "3"}))
    with pytest.raises(TaskDataError, match=r"row 0.*answer 2 of 2 options"):
        Winogrande().load(data)
    (data / "dev.jsonl").unlink()
    with pytest.raises(TaskDataError, match=r"dev\.jsonl"):
        Winogrande().load(data)


def test_a_split_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(TaskDataError, match=r"aime2024 has no 'train' split, only \['test'\]"):
        TASKS["aime2024"]("train").load(Path())


@pytest.mark.parametrize("name", sorted(TASKS))
def test_no_file_is_both_trained_and_measured_on(name: str):
    files = TASKS[name]("train").files
    assert not set(files.get("test", ())) & {*files.get("train", ()), *files.get("val", ())}
