"""Evaluation end to end: with a model that knows its answers, and the command on a tiny random one."""

import json
from pathlib import Path

import pytest

from specialists.evaluation.run import Subject, evaluate, main
from specialists.evaluation.task_registry import TASKS
from specialists.evaluation.tasks.gsm8k import GSM8K
from tests.specialists.evaluation.fakes import FakeModel

ROWS = [
    {"question": f"What is {n} plus {n}?", "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"} for n in range(8)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "gsm8k").mkdir(parents=True)
    (folder / "gsm8k/test_first660.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def answer_some(key: str, prompt: str) -> str:
    number = int(key.rsplit("/", 1)[1])
    if number < 4:
        return f"{number} + {number} = {2 * number}\n#### {2 * number}"
    if number < 6:
        return f"It is {2 * number}."
    return "It is 1, or ..."


def test_a_report_counts_what_the_grader_says(data: Path, tmp_path: Path) -> None:
    task = GSM8K()
    items = task.load(data)
    report = evaluate(task, items, FakeModel(answer_some), Subject(model="fake", adapter="math"))
    assert (report.num_items, report.accuracy, report.format_adherence) == (8, 0.75, 0.5)
    assert report.interval[0] < 0.75 < report.interval[1]
    assert report.num_cut == 2
    assert report.num_tokens == sum(answer.num_tokens for answer in report.answers)
    assert [answer.id for answer in report.answers] == [item.id for item in items]
    assert "accuracy 75.0%" in report.summary()

    report.write(tmp_path / "out" / "report.json")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["accuracy"] == 0.75
    assert content["correct"] == [f"gsm8k/test/{n}" for n in range(6)]
    assert {"seed", "commit", "machine", "date", "seconds"} <= content.keys()
    lines = (tmp_path / "out" / "report.answers.jsonl").read_text().splitlines()
    assert json.loads(lines[7])["text"] == "It is 1, or ..."
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.answers.jsonl",
        "report.json",
    ]


def test_every_item_is_asked_once_and_greedily(data: Path) -> None:
    task = GSM8K()
    model = FakeModel(answer_some)
    evaluate(task, task.load(data), model, Subject(model="fake"))
    assert len({request.key for request in model.requests}) == 8
    assert all(request.params.is_greedy for request in model.requests)


def test_no_items_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        evaluate(GSM8K(), [], FakeModel(answer_some), Subject(model="fake"))


def test_the_command_measures_a_real_engine(
    data: Path, tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "gsm8k", lambda split: GSM8K(split, max_new_tokens=4))
    out = tmp_path / "report.json"
    arguments = ["--task", "gsm8k", "--model", str(tiny_qwen2), "--data", str(data), "--out", str(out)]
    assert main([*arguments, "--limit", "2", "--concurrency", "2"]) == 0
    assert json.loads(out.read_text())["num_items"] == 2


def test_the_command_says_what_is_wrong(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    arguments = ["--model", str(tmp_path / "nothing"), "--data", str(data), "--out", str(out)]
    assert main(["--task", "gsm8k", *arguments]) == 1
    assert main(["--task", "mbpp", *arguments]) == 1
    errors = capsys.readouterr().err.replace("\n", "")  # the console wraps lines
    assert "nothing" in errors
    assert "test_even_ids.jsonl" in errors
    assert not out.exists()
