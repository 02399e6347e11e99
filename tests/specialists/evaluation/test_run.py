"""Evaluation end to end with a model that knows its answers: counts, credit, and going on after a kill."""

import json
from pathlib import Path

import pytest

from specialists.evaluation.append_log import AppendLogError
from specialists.evaluation.run import Subject, evaluate
from specialists.evaluation.short_answer import ShortItem
from specialists.evaluation.tasks.gsm8k import GSM8K
from specialists.evaluation.tasks.trivia import TriviaQA
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
    assert (report.score, report.score_interval) == (report.accuracy, report.interval)
    assert report.interval[0] < 0.75 < report.interval[1]
    assert report.num_cut == 2
    assert report.num_tokens == sum(answer.num_tokens for answer in report.answers)
    assert [answer.id for answer in report.answers] == [item.id for item in items]
    assert "accuracy 75.0%" in report.summary() and "score" not in report.summary()

    report.write(tmp_path / "out" / "report.json")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["accuracy"] == 0.75
    assert content["correct"] == [f"gsm8k/test/{n}" for n in range(6)]
    assert {"seed", "commit", "machine", "date", "seconds", "analysis"} <= content.keys()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_credit_is_averaged_beside_accuracy(tmp_path: Path) -> None:
    items = [ShortItem(f"t/{number}", "Who?", ("red fox",)) for number in range(4)]
    texts = {"t/0": "red fox", "t/1": "red", "t/2": "blue", "t/3": "Red Fox."}
    model = FakeModel(lambda key, prompt: texts[key])
    report = evaluate(TriviaQA(), items, model, Subject(model="fake"))
    assert report.accuracy == 0.5
    assert report.score == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
    assert report.to_json()["scores"] == {"t/0": 1.0, "t/1": 0.6667, "t/2": 0.0, "t/3": 1.0}
    assert "score 66.7" in report.summary()


def test_every_item_is_asked_once_and_greedily(data: Path) -> None:
    task = GSM8K()
    model = FakeModel(answer_some)
    evaluate(task, task.load(data), model, Subject(model="fake"))
    assert len({request.key for request in model.requests}) == 8
    assert all(request.params.is_greedy for request in model.requests)


def test_no_items_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        evaluate(GSM8K(), [], FakeModel(answer_some), Subject(model="fake"))


class Killed(Exception):
    """What ends a run in the middle."""


def answer_until_killed(key: str, prompt: str) -> str:
    if key.endswith("/5"):
        raise Killed
    return answer_some(key, prompt)


def test_a_run_that_was_killed_goes_on(data: Path, tmp_path: Path) -> None:
    task = GSM8K()
    items = task.load(data)
    log = tmp_path / "report.answers.jsonl"
    with pytest.raises(Killed):
        evaluate(task, items, FakeModel(answer_until_killed, batch=2), Subject(model="fake"), log)
    kept = log.read_text().splitlines()
    assert 2 < len(kept) < 9  # the settings, and some answers
    log.write_text(log.read_text() + '{"id": "gsm8k/te')  # what a kill leaves of a line
    model = FakeModel(answer_some)
    report = evaluate(task, items, model, Subject(model="fake"), log)
    assert len(model.requests) == 8 - (len(kept) - 1)
    whole = evaluate(task, items, FakeModel(answer_some), Subject(model="fake"))
    assert report.to_json()["correct"] == whole.to_json()["correct"]
    assert [answer.text for answer in report.answers] == [answer.text for answer in whole.answers]
    again = FakeModel(answer_some)
    assert evaluate(task, items, again, Subject(model="fake"), log).accuracy == 0.75
    assert again.requests == []


def test_answers_of_another_subject_or_prompt_are_not_continued(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = GSM8K()
    log = tmp_path / "report.answers.jsonl"
    evaluate(task, task.load(data), FakeModel(answer_some), Subject(model="fake", fingerprint="1"), log)
    with pytest.raises(AppendLogError, match="fingerprint was '1', now '2'"):
        evaluate(task, task.load(data), FakeModel(answer_some), Subject(model="fake", fingerprint="2"), log)
    monkeypatch.setattr("specialists.evaluation.tasks.gsm8k.INSTRUCTION", "Answer!")
    with pytest.raises(AppendLogError, match="answers another prompt for gsm8k/test/"):
        evaluate(task, task.load(data), FakeModel(answer_some), Subject(model="fake", fingerprint="1"), log)
