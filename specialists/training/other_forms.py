"""Solutions to one task's problems, asked again in the form of another task that has the same problems.

    python -m specialists.training.other_forms --task gsm8k_options --data ../shared/data \\
        --attempts math_teacher.attempts.jsonl --out math_teacher_options.jsonl [--max-per-problem 1]

`--attempts` is the log that `rejection` wrote for `gsm8k`. What its grader found right is right here too, so nothing is
sampled anew: the other task's own `rewrite` gives each solution the ending that it asks for.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from specialists.evaluation.append_log import AppendLogError, read_log
from specialists.evaluation.task import Item, TaskDataError
from specialists.evaluation.task_registry import TASKS, get_task
from specialists.training.attempts import Attempt
from specialists.training.reporting import report_or_explain
from specialists.training.solutions import Row, select_solutions, write_solutions


def tell_again(task_name: str, data: Path, attempts: Sequence[Attempt], most: int) -> list[Row]:
    """Rows for the right ones of `attempts`, at most `most` a problem.

    Raises TaskDataError when the task lacks a problem that was attempted: its rows are then not the same ones.
    """
    task = get_task(task_name, "train")
    items: dict[str, Item] = {item.id: item for item in task.load(data)}
    moved = [replace(attempt, item_id=_moved(attempt.item_id, task_name)) for attempt in attempts]
    unknown = [attempt.item_id for attempt in moved if attempt.item_id not in items]
    if unknown:
        raise TaskDataError(f"{task_name} has no problem {unknown[0]!r}; are the attempts of another set?")
    return select_solutions(task, items, moved, most)


def _moved(item_id: str, task_name: str) -> str:
    """`gsm8k/train/7` as `gsm8k_options/train/7`: the same row of the same file."""
    return f"{task_name}/{item_id.split('/', 1)[1]}"


def read_attempts(path: Path) -> list[Attempt]:
    """The attempts of a log. Raises AppendLogError naming the file."""
    try:
        return [Attempt(**row) for row in read_log(path).rows]
    except TypeError as error:
        raise AppendLogError(f"{path} is not a log of attempts: {error}") from error


def _run(options: argparse.Namespace) -> dict[str, Any]:
    attempts = read_attempts(options.attempts)
    rows = tell_again(options.task, options.data, attempts, options.max_per_problem)
    report = {
        "task": options.task,
        "attempts": options.attempts.name,
        "num_right": sum(attempt.correct for attempt in attempts),
        "num_solutions": len(rows),
    }
    write_solutions(options.out, rows, report)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Give solutions the form that another task asks for.")
    parser.add_argument("--task", choices=sorted(TASKS), required=True, help="the other task")
    parser.add_argument("--attempts", type=Path, required=True, help="the log that `rejection` wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder with the public data sets")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl of solutions to write")
    parser.add_argument("--max-per-problem", type=int, default=1)
    options = parser.parse_args(arguments)
    return report_or_explain(partial(_run, options))


if __name__ == "__main__":
    sys.exit(main())
