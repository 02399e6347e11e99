"""Rejection sampling: a model writes solutions to training problems; those the grader finds right are kept.

    python -m specialists.training.rejection --task gsm8k --model <folder> --data ../shared/data \\
        --out solutions.jsonl --samples 4 [--limit 2000] [--max-minutes 60] [--concurrency 48]

--prompt says how the model is asked: `task` as in evaluation, `plain` with the bare question, `notes` with the
data's own solution to put into its own words. What is learned from is always question and kept answer.

Every attempt goes to `<out>.attempts.jsonl` at once; the same command continues after a kill, and may be
given a larger --limit, --samples or --max-minutes. `<out>` is made anew at the end: distinct right
solutions, rewritten to the asked form, at most --max-per-problem for a problem; `<out>.yield.json` says what
came of it.
"""

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal, get_args

from specialists.engine.config import Quantization
from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.generation import EngineGenerator, Generate, Generation, GenerationRequest
from specialists.evaluation.grading import grade_as_they_come
from specialists.evaluation.item_order import shuffle_items
from specialists.evaluation.progress import show_progress
from specialists.evaluation.task import Item, ItemT, Message, Task, TaskDataError
from specialists.evaluation.task_registry import TASKS, get_task
from specialists.training.attempts import Attempt, AttemptLog, attempt_key
from specialists.training.reporting import report_or_explain
from specialists.training.solutions import select_solutions, write_solutions

PromptStyle = Literal["task", "plain", "notes"]

_NOTES = (
    "{question}\n\nNotes: {reference}\n\n"
    "Using the notes, solve the problem step by step, with the calculation of each step, and end with the answer."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """How often and how each problem is tried. Sample 0 is greedy; the others draw at `temperature`.

    A problem that has `enough` right solutions is not tried again: the time goes to those that have none.
    """

    num_samples: int = 4
    temperature: float = 0.7
    top_p: float = 0.95
    max_new_tokens: int = 320
    seed: int = 20
    prompt: PromptStyle = "task"
    enough: int = 4
    max_seconds: float = float("inf")

    def params(self, item_id: str, sample: int) -> SamplingParams:
        digest = hashlib.sha256(f"{self.seed}/{item_id}/{sample}".encode()).digest()
        return SamplingParams(
            max_tokens=self.max_new_tokens,
            temperature=0.0 if sample == 0 else self.temperature,
            top_p=self.top_p,
            seed=int.from_bytes(digest[:7], "big"),
        )


def sample_solutions(
    task: Task[ItemT], items: Sequence[ItemT], generate: Generate, plan: SamplingPlan, log: AttemptLog
) -> None:
    """Try the items until the plan is done or its time is over; what the log holds is not repeated."""
    by_id = {item.id: item for item in items}
    num_right = Counter(attempt.item_id for attempt in log.attempts if attempt.correct)
    requests = _requests(task, items, plan, {attempt.key for attempt in log.attempts}, num_right)
    with show_progress(f"sampling {task.name}", len(items) * plan.num_samples) as meter:
        meter.advance(len(log.attempts))
        for attempt in grade_as_they_come(generate(requests), partial(_grade, task, by_id)):
            log.append(attempt)
            num_right[attempt.item_id] += attempt.correct
            meter.advance(1, attempt.num_tokens, f"{num_right.total()} right, {_covered(num_right)} problems")


def _requests(
    task: Task[ItemT], items: Sequence[ItemT], plan: SamplingPlan, done: set[str], num_right: Counter[str]
) -> Iterator[GenerationRequest]:
    """All first samples, then all second ones: stopped at any time, all problems had the same chances."""
    deadline = monotonic() + plan.max_seconds
    for sample in range(plan.num_samples):
        for item in items:
            key = attempt_key(item.id, sample)
            if key in done or num_right[item.id] >= plan.enough:
                continue
            if monotonic() > deadline:
                return
            yield GenerationRequest(key, ask(task, item, plan.prompt), plan.params(item.id, sample))


def ask(task: Task[ItemT], item: ItemT, style: PromptStyle) -> list[Message]:
    """The conversation that asks for a solution. Raises TaskDataError when there is no solution to show."""
    if style == "task":
        return task.prompt(item)
    if style == "plain":
        return [{"role": "user", "content": item.question}]
    reference = task.reference(item)
    if not reference:
        raise TaskDataError(
            f"task {task.name} has no reference solutions to show; use --prompt task or plain"
        )
    return [{"role": "user", "content": _NOTES.format(question=item.question, reference=reference)}]


def _grade(task: Task[ItemT], by_id: dict[str, ItemT], generation: Generation) -> Attempt:
    item_id, sample = generation.key.rsplit("#", 1)
    grade = task.grade(by_id[item_id], generation.text)
    return Attempt(
        item_id=item_id,
        sample=int(sample),
        text=generation.text,
        num_tokens=generation.num_tokens,
        is_cut=generation.is_cut,
        correct=grade.correct,
        well_formed=grade.well_formed,
    )


def _covered(num_right: Counter[str]) -> int:
    return sum(count > 0 for count in num_right.values())


def report_yield(attempts: Sequence[Attempt], num_solutions: int, seconds: float) -> dict[str, Any]:
    """What the sampling brought, in counts and shares. `seconds` is the time of this run alone."""
    right = [attempt for attempt in attempts if attempt.correct]
    tried = {attempt.item_id for attempt in attempts}
    return {
        "num_attempts": len(attempts),
        "num_right": len(right),
        "share_right": round(len(right) / max(len(attempts), 1), 4),
        "num_problems": len(tried),
        "num_problems_solved": len({attempt.item_id for attempt in right}),
        "num_cut": sum(attempt.is_cut for attempt in attempts),
        "num_solutions": num_solutions,
        "num_tokens": sum(attempt.num_tokens for attempt in attempts),
        "seconds": round(seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    return report_or_explain(partial(_run, options))


def _run(options: argparse.Namespace) -> dict[str, Any]:
    task = get_task(options.task, "train")
    items: list[Item] = shuffle_items(task.load(options.data), options.seed, options.limit)
    plan = SamplingPlan(
        num_samples=options.samples,
        temperature=options.temperature,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        prompt=options.prompt,
        enough=options.max_per_problem,
        max_seconds=options.max_minutes * 60.0,
    )
    settings = {
        "task": task.name,
        "model": options.model.resolve().name,
        "adapter": options.adapter and options.adapter.resolve().name,
        "prompt": plan.prompt,
        "quantization": options.quantization,
        "seed": plan.seed,
        "temperature": plan.temperature,
        "max_new_tokens": plan.max_new_tokens,
    }
    start = monotonic()
    with AttemptLog(options.out.with_suffix(".attempts.jsonl"), settings) as log:
        generate = EngineGenerator.from_folders(
            options.model, options.adapter, options.concurrency, options.quantization
        )
        sample_solutions(task, items, generate, plan, log)
    known = {item.id: item for item in task.load(options.data)}
    solutions = select_solutions(task, known, log.attempts, options.max_per_problem)
    report = report_yield(log.attempts, len(solutions), monotonic() - start)
    write_solutions(options.out, solutions, {**settings, **report})
    return report


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Sample solutions to training problems; keep the right ones."
    )
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model that writes solutions")
    parser.add_argument("--adapter", type=Path, help="folder of a PEFT adapter to sample with")
    parser.add_argument("--data", type=Path, required=True, help="folder with the public data sets")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl of solutions to write")
    parser.add_argument("--samples", type=int, default=4, help="attempts per problem; the first is greedy")
    parser.add_argument("--max-per-problem", type=int, default=4, help="right solutions that are enough")
    parser.add_argument("--prompt", choices=get_args(PromptStyle), default="task")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--limit", type=int, help="only N problems, drawn with the seed")
    parser.add_argument("--max-minutes", type=float, default=float("inf"), help="ask nothing new after this")
    parser.add_argument("--concurrency", type=int, default=48, help="sequences decoded together")
    parser.add_argument("--quantization", choices=get_args(Quantization), default="none", help="of the base")
    parser.add_argument("--seed", type=int, default=20)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
