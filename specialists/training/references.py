"""Training rows from a task's own references: the data's answers, in the form that the grader reads.

    python -m specialists.training.references --task commonsenseqa --data ../shared/data --out commonsense.jsonl \\
        [--split train] [--limit 2000] [--seed 20]

A row is what a recipe's source reads: id, `question` (as a user would type it), `prompt` (as in evaluation) and
`completion`; or `messages` where a conversation goes before. Multiple-choice options are shuffled so that every
place is right equally often. Items without a reference are left out, test splits are refused.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from specialists.evaluation.choice import ChoiceItem, balance_positions
from specialists.evaluation.item_order import shuffle_items
from specialists.evaluation.task import ItemT, Task, TaskDataError
from specialists.evaluation.task_registry import TASKS, get_task
from specialists.training.solutions import Row, write_solutions


def make_references(
    task: Task[ItemT], items: Sequence[ItemT], seed: int, limit: int | None = None
) -> list[Row]:
    """At most `limit` rows, drawn with the seed; a larger limit adds rows and drops none."""
    drawn: list[Any] = shuffle_items(items, seed, limit)
    if all(isinstance(item, ChoiceItem) for item in drawn):
        drawn = list(balance_positions(drawn, seed))
    return [_row(task, item, reference) for item in drawn if (reference := task.reference(item).strip())]


def _row(task: Task[ItemT], item: ItemT, reference: str) -> Row:
    prompt = task.prompt(item)
    if len(prompt) > 1:
        messages = [*map(dict, prompt), {"role": "assistant", "content": reference}]
        return {"id": item.id, "messages": messages}
    return {
        "id": item.id,
        "question": item.question,
        "prompt": prompt[0]["content"],
        "completion": reference,
    }


def describe_references(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts, and how often each of the frequent completions occurs: for letters, whether they are balanced."""
    completions = Counter(row.get("completion", "") for row in rows)
    frequent = {text: count for text, count in completions.most_common(10) if count > 1 and len(text) < 20}
    return {"num_rows": len(rows), "frequent_completions": frequent}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    console = Console(stderr=True)
    try:
        task = get_task(options.task, options.split)
        rows = make_references(task, task.load(options.data), options.seed, options.limit)
        if not rows:
            raise TaskDataError(f"task {task.name} has no references to learn from")
        report = {
            "task": task.name,
            "split": options.split,
            "seed": options.seed,
            **describe_references(rows),
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_solutions(options.out, rows, report)
    except (TaskDataError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    console.print(json.dumps(report, ensure_ascii=False), markup=False, soft_wrap=True)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a task's references as training rows.")
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--data", type=Path, required=True, help="folder with the public data sets")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl of rows to write")
    parser.add_argument("--limit", type=int, help="only N items, drawn with the seed")
    parser.add_argument("--seed", type=int, default=20)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
