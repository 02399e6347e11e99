"""Measure a model on one task: greedy, every item once, answers kept as they come, and a report at the end.

Knows no command line (`polymath evaluate` is one) and no model: what generates is handed in. Rows of a `test`
split are for measuring only; training reads the other splits.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from specialists.engine.config import Quantization
from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.answer import AnswerLog, GradedAnswer, prompt_digest
from specialists.evaluation.append_log import AppendLogError
from specialists.evaluation.generation import Generate, Generation, GenerationRequest
from specialists.evaluation.grading import grade_as_they_come
from specialists.evaluation.progress import show_progress
from specialists.evaluation.provenance import current_commit, describe_machine
from specialists.evaluation.report import Report, summarize_answers
from specialists.evaluation.task import ItemT, Split, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured and how it is named in the report.

    `fingerprint` tells weights of one name apart, so that answers of an older adapter are never continued;
    `limit` and `rewriting` say what was made of the task's items.
    """

    model: str
    adapter: str | None = None
    fingerprint: str = ""
    split: Split = "test"
    seed: int = 20
    quantization: Quantization = "none"
    limit: int | None = None
    rewriting: str | None = None


def evaluate(
    task: Task[ItemT], items: Sequence[ItemT], generate: Generate, subject: Subject, log: Path | None = None
) -> Report:
    """Ask each item once, grade the answers as they come, and report.

    With `log` every answer is appended to that file at once, and answers it already holds are not asked for again.
    Raises ValueError without items, AppendLogError when the log is of another measurement.
    """
    if not items:
        raise ValueError(f"task {task.name} has no items to evaluate")
    with ExitStack() as stack:
        kept = stack.enter_context(AnswerLog(log, _log_settings(task, subject))) if log else None
        answers, seconds = _answer_all(
            task, items, generate, f"{task.name} {subject.adapter or 'base'}", kept
        )
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
        limit=subject.limit,
        rewriting=subject.rewriting,
        **summarize_answers(answers, subject.seed),
    )


def _log_settings(task: Task[ItemT], subject: Subject) -> dict[str, Any]:
    """What must not change between the runs of one log. The limit may: a larger one adds items."""
    return {
        "task": task.name,
        "split": subject.split,
        "model": subject.model,
        "adapter": subject.adapter,
        "fingerprint": subject.fingerprint,
        "quantization": subject.quantization,
        "rewriting": subject.rewriting,
        "max_new_tokens": task.max_new_tokens,
    }


def _answer_all(
    task: Task[ItemT], items: Sequence[ItemT], generate: Generate, title: str, log: AnswerLog | None
) -> tuple[list[GradedAnswer], float]:
    """The answers in the order of the items, and the seconds that all runs of the log took together."""
    by_id = {item.id: item for item in items}
    answers = _kept_answers(task, by_id, log) if log else {}
    params = SamplingParams(max_tokens=task.max_new_tokens, temperature=0.0)
    missing = [item for item in items if item.id not in answers]
    requests = (GenerationRequest(item.id, task.prompt(item), params) for item in missing)
    start = monotonic() - (log.seconds if log else 0.0)

    def grade(generation: Generation) -> GradedAnswer:
        return _grade(task, by_id[generation.key], generation)

    num_correct = sum(answer.grade.correct for answer in answers.values())
    with show_progress(title, len(items)) as meter:
        meter.advance(len(answers))
        for ungraded in grade_as_they_come(generate(requests), grade):
            answer = replace(ungraded, seconds=round(monotonic() - start, 2))
            answers[answer.id] = answer
            if log:
                log.append(answer)
            num_correct += answer.grade.correct
            meter.advance(1, answer.num_tokens, f"{num_correct} right")
    return [answers[item.id] for item in items], max(answer.seconds for answer in answers.values())


def _kept_answers(task: Task[ItemT], by_id: Mapping[str, ItemT], log: AnswerLog) -> dict[str, GradedAnswer]:
    """What the log holds of these items, graded anew: a grader may have been mended since."""
    kept = {answer.id: answer for answer in log.rows if answer.id in by_id}
    for answer in kept.values():
        if answer.prompt_sha256 != prompt_digest(task.prompt(by_id[answer.id])):
            raise AppendLogError(f"{log.path} answers another prompt for {answer.id}; choose another --out")
    return {key: replace(answer, grade=task.grade(by_id[key], answer.text)) for key, answer in kept.items()}


def _grade(task: Task[ItemT], item: ItemT, generation: Generation) -> GradedAnswer:
    return GradedAnswer(
        id=generation.key,
        text=generation.text,
        num_tokens=generation.num_tokens,
        is_cut=generation.is_cut,
        grade=task.grade(item, generation.text),
        category=item.category,
        prompt_sha256=prompt_digest(task.prompt(item)),
        specialist=generation.specialist,
        is_reused=generation.is_reused,
    )
