"""Base, specialists, routed ensemble and teacher beside each other, on the items that all of them answered.

    python -m specialists.evaluation.compare REPORTS [--subjects base specialist ensemble base@teacher] [--tasks gsm8k ...]
    python -m specialists.evaluation.compare REPORTS --subjects base-int8 specialist-int8 --by-subject

REPORTS is the folder that `polymath evaluate` wrote. `specialist` stands for the one of the task's domain: what a
delegator that never errs would have chosen. Writes `comparison.json` there and prints the table, credit in points.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialists.evaluation.append_log import read_log
from specialists.evaluation.bootstrap import paired_difference
from specialists.evaluation.task import Grade
from specialists.evaluation.task_registry import DOMAINS

SPECIALIST = "specialist"
_SEED = 20
_DOMAIN_OF = {task: domain for domain, tasks in DOMAINS.items() for task in tasks}

Credits = Mapping[str, float]  # by item


@dataclass(frozen=True, slots=True)
class Measured:
    """Each answered item's credit (1 or 0 where the task gives none), and the length the answers were cut at."""

    credits: Credits
    max_new_tokens: int | None


def read_measured(folder: Path, subject: str, task: str) -> Measured | None:
    """None where nothing was measured. Credits are the report's, whose grades are made anew from the kept texts; the
    log's for what the report does not know. Raises AppendLogError naming a damaged log.
    """
    path = folder / f"{_stem(subject, task)}.answers.jsonl"
    if not path.is_file():
        return None
    log = read_log(path)
    limit: int | None = log.settings.get("max_new_tokens")
    logged = {row["id"]: Grade(**row["grade"]).score for row in log.rows}
    report = folder / f"{_stem(subject, task)}.json"
    graded: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    if graded.get("num_items") != len(logged):  # none yet, or a larger run is under way
        return Measured(logged, limit)
    scores = graded.get("scores") or {key: float(key in graded["correct"]) for key in logged}
    return Measured({key: scores[key] for key in logged}, limit)


def _stem(subject: str, task: str) -> str:
    """What the files of this measurement are called; `specialist-int8` is the task's own one with an 8-bit base."""
    name, dash, precision = subject.partition("-")
    return f"{_DOMAIN_OF[task] if name == SPECIALIST else name}{dash}{precision}_{task}"


def _origin(folder: Path, subjects: Sequence[str], tasks: Iterable[str]) -> dict[str, list[Any]]:
    """Machines, commits and seeds of the reports that are whole."""
    paths = [folder / f"{_stem(subject, task)}.json" for task in tasks for subject in subjects]
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    return {f"{key}s": sorted({report[key] for report in reports}) for key in ("machine", "commit", "seed")}


def compare(folder: Path, subjects: Sequence[str], tasks: Sequence[str]) -> dict[str, Any]:
    """Rows by task, then the mean over domains (each domain's tasks counting alike).

    A task counts where all subjects have answers to shared items. Raises ValueError when there is none, or when answers to
    one task were cut at different lengths.
    """
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        found = {subject: read_measured(folder, subject, task) for subject in subjects}
        measured = {subject: one for subject, one in found.items() if one is not None}
        if len(measured) < len(subjects):
            continue
        shared = sorted(set.intersection(*(set(one.credits) for one in measured.values())))
        if shared:
            limits = {subject: one.max_new_tokens for subject, one in measured.items()}
            if len(set(limits.values())) > 1:
                raise ValueError(f"{task} was answered with different max_new_tokens: {limits}")
            rows[task] = _row(
                [{key: one.credits[key] for key in shared} for one in measured.values()], subjects
            )
    if not rows:
        raise ValueError(
            f"{folder} has no task on which all of {', '.join(subjects)} answered the same items"
        )
    domains = dict.fromkeys(_DOMAIN_OF[task] for task in rows)
    means = {
        subject: _mean(_domain_mean(rows, domain, subject) for domain in domains) for subject in subjects
    }
    return {
        **_origin(folder, subjects, rows),
        "subjects": list(subjects),
        "tasks": rows,
        "domains": list(domains),
        "mean_over_domains": means,
    }


def _row(credits: Sequence[Credits], subjects: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"items": len(credits[0])}
    row |= {subject: _mean(one.values()) for subject, one in zip(subjects, credits, strict=True)}
    for subject, one in list(zip(subjects, credits, strict=True))[1:]:
        change = paired_difference(credits[0], one, _SEED)
        row[f"{subject}_minus_{subjects[0]}"] = [change.mean, change.low, change.high]
    return row


def _domain_mean(rows: Mapping[str, Mapping[str, Any]], domain: str, subject: str) -> float:
    return _mean(row[subject] for task, row in rows.items() if _DOMAIN_OF[task] == domain)


def _mean(values: Any) -> float:
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)


def render(comparison: Mapping[str, Any]) -> str:
    """The table as Markdown, in points."""
    subjects: list[str] = comparison["subjects"]
    lines = ["| task | items | " + " | ".join(subjects) + " |", "|---" * (len(subjects) + 2) + "|"]
    for task, row in comparison["tasks"].items():
        cells = [f"{100 * row[subject]:.1f}" for subject in subjects]
        lines.append(f"| `{task}` | {row['items']} | " + " | ".join(cells) + " |")
    means = [f"{100 * comparison['mean_over_domains'][subject]:.1f}" for subject in subjects]
    lines.append(f"| mean over {len(comparison['domains'])} domains | | " + " | ".join(means) + " |")
    return "\n".join(lines)


def render_by_subject(comparison: Mapping[str, Any]) -> str:
    """The same with a line for each subject and a column for each task, as papers print it."""
    tasks: Mapping[str, Mapping[str, Any]] = comparison["tasks"]
    heads = [f"`{task}` ({row['items']})" for task, row in tasks.items()]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(tasks) + 1) + "|"]
    for subject in comparison["subjects"]:
        cells = [f"{100 * row[subject]:.1f}" for row in tasks.values()]
        lines.append(f"| {subject} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Put reports beside each other.")
    parser.add_argument("reports", type=Path)
    parser.add_argument("--subjects", nargs="+", default=["base", SPECIALIST, "ensemble"])
    parser.add_argument("--tasks", nargs="+", choices=sorted(_DOMAIN_OF), default=list(_DOMAIN_OF))
    parser.add_argument("--by-subject", action="store_true", help="Print a line for each subject.")
    options = parser.parse_args(arguments)
    try:
        comparison = compare(options.reports, options.subjects, options.tasks)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    (options.reports / "comparison.json").write_text(
        json.dumps(comparison, indent=1) + "\n", encoding="utf-8"
    )
    table = render_by_subject(comparison) if options.by_subject else render(comparison)
    sys.stdout.write(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
