"""From graded attempts to training rows: right, complete, well-formed, distinct, not too many a problem."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specialists.evaluation.task import ItemT, Task
from specialists.training.attempts import Attempt

Row = dict[str, Any]


def select_solutions(
    task: Task[ItemT], items: Mapping[str, ItemT], attempts: Sequence[Attempt], max_per_problem: int
) -> list[Row]:
    """A row per kept solution: id, `question` (the bare problem), `prompt` (as in evaluation), `completion`.

    Attempts that were cut off are never examples, right or not: they would teach not to end.
    """
    kept: dict[str, list[Row]] = defaultdict(list)
    seen: dict[str, set[str]] = defaultdict(set)
    for attempt in sorted(attempts, key=lambda attempt: (attempt.item_id, attempt.sample)):
        if not attempt.correct or attempt.is_cut or len(kept[attempt.item_id]) >= max_per_problem:
            continue
        item = items[attempt.item_id]
        completion = task.rewrite(item, attempt.text)
        if completion is None or _fingerprint(completion) in seen[item.id]:
            continue
        seen[item.id].add(_fingerprint(completion))
        prompt = task.prompt(item)[-1]["content"]
        kept[item.id].append(
            {"id": attempt.key, "question": item.question, "prompt": prompt, "completion": completion}
        )
    return [row for item_id in items for row in kept.get(item_id, [])]


def _fingerprint(text: str) -> str:
    """Solutions that differ only in spacing or capitals are the same solution."""
    return "".join(text.lower().split())


def write_solutions(path: Path, rows: Sequence[Row], report: Mapping[str, Any]) -> None:
    """Write the rows, and `<path stem>.yield.json` beside them; each is renamed into place when complete."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for target, content in (
        (path, text),
        (path.with_suffix(".yield.json"), json.dumps(report, indent=2) + "\n"),
    ):
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(content, encoding="utf-8")
        partial.replace(target)
