"""Measure a base, or a base with one adapter, on one task; greedy, every item once.

    python -m specialists.evaluation.run --task gsm8k --model <folder> [--adapter <folder>] \\
        --data ../shared/data --out report.json [--split test] [--limit N] [--concurrency 32]

The answers' texts are written beside the report as `.answers.jsonl`. Rows of a `test` split are for measuring
only; training reads the other splits.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import get_args

from rich.console import Console

from specialists.engine.config import Quantization
from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.generation import EngineGenerator, Generate, Generation, GenerationRequest
from specialists.evaluation.grading import grade_as_they_come
from specialists.evaluation.progress import show_progress
from specialists.evaluation.provenance import current_commit, describe_machine
from specialists.evaluation.report import GradedAnswer, Report, summarize_answers
from specialists.evaluation.task import ItemT, Split, Task, TaskDataError
from specialists.evaluation.task_registry import TASKS, get_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured and how it is named in the report."""

    model: str
    adapter: str | None = None
    split: Split = "test"
    seed: int = 20
    quantization: Quantization = "none"


def evaluate(task: Task[ItemT], items: Sequence[ItemT], generate: Generate, subject: Subject) -> Report:
    """Ask each item once, grade the answers as they come, and report. Raises ValueError without items."""
    if not items:
        raise ValueError(f"task {task.name} has no items to evaluate")
    start = monotonic()
    answers = _answer_all(task, items, generate, f"{task.name} {subject.adapter or 'base'}")
    seconds = monotonic() - start
    return Report(
        task=task.name,
        split=subject.split,
        model=subject.model,
        adapter=subject.adapter,
        quantization=subject.quantization,
        seconds=round(seconds, 1),
        seed=subject.seed,
        commit=current_commit(),
        machine=describe_machine(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        **summarize_answers(answers, subject.seed),
    )


def _answer_all(
    task: Task[ItemT], items: Sequence[ItemT], generate: Generate, title: str
) -> list[GradedAnswer]:
    by_id = {item.id: item for item in items}
    params = SamplingParams(max_tokens=task.max_new_tokens, temperature=0.0)
    requests = (GenerationRequest(item.id, task.prompt(item), params) for item in items)

    def grade(generation: Generation) -> GradedAnswer:
        return GradedAnswer(
            id=generation.key,
            text=generation.text,
            num_tokens=generation.num_tokens,
            is_cut=generation.is_cut,
            grade=task.grade(by_id[generation.key], generation.text),
        )

    answers: dict[str, GradedAnswer] = {}
    num_correct = 0
    with show_progress(title, len(items)) as meter:
        for answer in grade_as_they_come(generate(requests), grade):
            answers[answer.id] = answer
            num_correct += answer.grade.correct
            meter.advance(1, answer.num_tokens, f"{num_correct} right")
    return [answers[item.id] for item in items]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    console = Console(stderr=True)
    try:
        task = get_task(options.task, options.split)
        items = task.load(options.data)[: options.limit]
        generator = EngineGenerator.from_folders(
            options.model, options.adapter, options.concurrency, options.quantization
        )
        subject = Subject(
            model=options.model.resolve().name,
            adapter=options.adapter and options.adapter.resolve().name,
            split=options.split,
            seed=options.seed,
            quantization=options.quantization,
        )
        report = evaluate(task, items, generator, subject)
        report.write(options.out)
    except (TaskDataError, ValueError, OSError, RuntimeError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    console.print(report.summary(), markup=False, soft_wrap=True)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a model, or a specialist, on one task.")
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--split", choices=get_args(Split), default="test")
    parser.add_argument("--model", type=Path, required=True, help="folder of the imported base")
    parser.add_argument(
        "--adapter", type=Path, help="folder of a PEFT adapter; without it the base is measured"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the public data sets")
    parser.add_argument("--out", type=Path, required=True, help="the JSON report to write")
    parser.add_argument("--limit", type=int, help="only the first N items")
    parser.add_argument("--concurrency", type=int, default=32, help="sequences decoded together")
    parser.add_argument("--quantization", choices=get_args(Quantization), default="none", help="of the base")
    parser.add_argument("--seed", type=int, default=20, help="of the bootstrap; decoding is greedy")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
