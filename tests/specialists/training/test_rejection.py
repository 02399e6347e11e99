"""Sampling with a model that knows its answers: what is asked, what is kept, what a kill leaves."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from specialists.evaluation.append_log import AppendLogError
from specialists.evaluation.generation import Generation, GenerationRequest
from specialists.evaluation.item_order import shuffle_items
from specialists.evaluation.program import Problem
from specialists.evaluation.task import TaskDataError
from specialists.evaluation.task_registry import TASKS
from specialists.evaluation.tasks.gsm8k import GSM8K, WordProblem
from specialists.evaluation.tasks.humaneval import HumanEval
from specialists.training import rejection
from specialists.training.attempts import Attempt, AttemptLog
from specialists.training.rejection import (
    SamplingPlan,
    ask,
    main,
    report_yield,
    sample_solutions,
)
from specialists.training.solutions import select_solutions
from tests.specialists.evaluation.fakes import FakeModel

TASK = GSM8K("train")
ITEMS = [WordProblem(f"gsm8k/train/{n}", f"{n} + {n}?", f"<<{n}+{n}={2 * n}>>", 2 * n) for n in range(6)]  # type: ignore[arg-type]
SETTINGS = {"task": "gsm8k", "seed": 20}


def answer(key: str, prompt: str) -> str:
    """Problems 0 to 2 are always right, 3 only in its last sample, 4 never, 5 is right but cut off."""
    item, sample = key.rsplit("#", 1)
    number = int(item.rsplit("/", 1)[1])
    value = 2 * number if number < 3 or number == 5 or (number == 3 and sample == "2") else 99
    spacing = " " * int(sample)
    return f"We add{spacing} {number} and {number}: {value}" + ("..." if number == 5 else "")


def sample(path: Path, model: FakeModel, **plan: int) -> list[Attempt]:
    with AttemptLog(path, SETTINGS) as log:
        sample_solutions(TASK, ITEMS, model, SamplingPlan(num_samples=3, **plan), log)
        return log.attempts


def test_only_right_distinct_and_complete_solutions_are_kept(tmp_path: Path) -> None:
    attempts = sample(tmp_path / "a.jsonl", FakeModel(answer))
    rows = select_solutions(TASK, {item.id: item for item in ITEMS}, attempts, max_per_problem=4)
    # problem 0 to 2: three samples that differ in spacing only
    assert [row["id"] for row in rows] == [f"gsm8k/train/{n}#0" for n in range(3)] + ["gsm8k/train/3#2"]
    assert rows[1]["completion"] == "We add 1 and 1: 2\n#### 2"
    assert rows[1]["question"] == "1 + 1?"
    assert "####" in rows[1]["prompt"]
    report = report_yield(attempts, len(rows), seconds=1.0)
    assert (report["num_attempts"], report["num_right"], report["num_problems_solved"]) == (18, 13, 5)
    assert report["num_cut"] == 3


def test_at_most_so_many_solutions_of_a_problem_are_kept(tmp_path: Path) -> None:
    model = FakeModel(lambda key, prompt: f"Way {key}: 2 and 2 make 2\n#### 2")
    attempts = sample(tmp_path / "a.jsonl", model)
    rows = select_solutions(TASK, {item.id: item for item in ITEMS}, attempts, max_per_problem=2)
    assert [row["id"] for row in rows] == ["gsm8k/train/1#0", "gsm8k/train/1#1"]


def test_the_first_sample_is_greedy_and_every_seed_differs(tmp_path: Path) -> None:
    model = FakeModel(answer)
    sample(tmp_path / "a.jsonl", model)
    greedy = [request for request in model.requests if request.params.is_greedy]
    assert {request.key.rsplit("#", 1)[1] for request in greedy} == {"0"}
    assert len({request.params.seed for request in model.requests}) == len(model.requests) == 18
    # every problem is tried once before any is tried twice
    assert [request.key.rsplit("#", 1)[1] for request in model.requests] == ["0"] * 6 + ["1"] * 6 + ["2"] * 6


def test_solved_problems_are_not_tried_again(tmp_path: Path) -> None:
    model = FakeModel(answer, batch=1)
    sample(tmp_path / "a.jsonl", model, enough=1)
    tried = [int(request.key.split("/")[2].split("#")[0]) for request in model.requests]
    assert tried.count(4) == 3
    assert tried.count(0) == 1


def test_a_plan_without_time_asks_nothing(tmp_path: Path) -> None:
    assert sample(tmp_path / "a.jsonl", FakeModel(answer), max_seconds=-1) == []


class DyingModel(FakeModel):
    """Answers seven requests and dies."""

    def __call__(self, requests: Iterator[GenerationRequest]) -> Iterator[Generation]:  # type: ignore[override]
        for index, generation in enumerate(super().__call__(requests)):
            if index == 7:
                raise RuntimeError("killed")
            yield generation


def test_a_killed_run_continues_without_repeating(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(RuntimeError, match="killed"):
        sample(path, DyingModel(answer, batch=1))
    with path.open("a") as file:
        file.write('{"item_id": "gsm8k/tr')  # the line a kill cut off
    model = FakeModel(answer)
    attempts = sample(path, model)
    assert len({attempt.key for attempt in attempts}) == len(attempts) == 18
    assert len(model.requests) == 11
    assert len(path.read_text().splitlines()) == 19


def test_a_log_of_other_settings_or_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    sample(path, FakeModel(answer))
    with (
        pytest.raises(AppendLogError, match="seed was 20, now 21"),
        AttemptLog(path, {**SETTINGS, "seed": 21}),
    ):
        pass
    path.write_text('{"something": "else"}\n')
    with pytest.raises(AppendLogError, match="is damaged or no log"), AttemptLog(path, SETTINGS):
        pass
    path.write_text('{"sett')
    with AttemptLog(path, SETTINGS) as log:
        assert log.attempts == []


def test_ways_of_asking() -> None:
    item = ITEMS[3]
    assert ask(TASK, item, "task") == TASK.prompt(item)
    assert ask(TASK, item, "plain") == [{"role": "user", "content": "3 + 3?"}]
    known = WordProblem("x", "3 + 3?", "3 + 3 = <<3+3=6>>6", 6)  # type: ignore[arg-type]
    assert "Notes: 3 + 3 = 6" in ask(TASK, known, "notes")[0]["content"]
    with pytest.raises(TaskDataError, match="no reference solutions"):
        ask(HumanEval(), Problem("p", "q", "f", ""), "notes")


def test_a_larger_limit_adds_items_and_drops_none() -> None:
    few, many = shuffle_items(ITEMS, 3, 2), shuffle_items(ITEMS, 3, 4)
    assert many[:2] == few
    assert sorted(item.id for item in shuffle_items(ITEMS, 3, None)) == [item.id for item in ITEMS]


def test_the_command_writes_solutions_and_their_yield(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KnownProblems(GSM8K):
        def load(self, data: Path) -> list[WordProblem]:
            return ITEMS

    monkeypatch.setitem(TASKS, "gsm8k", KnownProblems)
    monkeypatch.setattr(rejection.EngineGenerator, "from_folders", lambda *arguments: FakeModel(answer))
    out = tmp_path / "out" / "solutions.jsonl"
    arguments = ["--task", "gsm8k", "--model", "base", "--data", "data", "--out", str(out), "--samples", "3"]
    assert main(arguments) == 0
    assert len(out.read_text().splitlines()) == 4
    report = json.loads((tmp_path / "out/solutions.yield.json").read_text())
    assert (report["num_solutions"], report["model"], report["prompt"]) == (4, "base", "task")
    assert main([*arguments, "--temperature", "0.9"]) == 1
