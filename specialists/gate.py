"""Whether a specialist earns its place: better than the base on its own domain, no worse than allowed elsewhere, and not
worse at home than the version whose place it would take.

Decides from reports alone and runs nothing. What is required is data (`Gate`, in the recipe), so is an exception.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from specialists.evaluation.bootstrap import Difference, paired_difference
from specialists.evaluation.report import paired_scores
from specialists.training.method_sections import Gate

# The base's report on a task and the specialist's, as they are on disk.
ReportPair = tuple[Mapping[str, Any], Mapping[str, Any]]


class GateError(ValueError):
    """A specialist that is refused, or reports that cannot be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found. Differences are specialist minus base, as shares; `refusals` is empty when it is passed."""

    own: Difference
    tasks: dict[str, Difference]
    refusals: tuple[str, ...]
    exception: str | None
    over_published: Difference | None = None  # on its own domain, specialist minus the published version

    @property
    def passes(self) -> bool:
        return not self.refusals or self.exception is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people: the differences, and why it was refused or let through."""
        found = [f"own domain: {_points(self.own)}"]
        found += [f"  {task}: {_points(difference)}" for task, difference in self.tasks.items()]
        if self.over_published is not None:
            found.append(f"beside the published version: {_points(self.over_published)}")
        found += [f"refused: {reason}" for reason in self.refusals]
        if self.refusals and self.exception is not None:
            found.append(f"let through by a recorded exception: {self.exception}")
        return found


def judge(gate: Gate, pairs: Sequence[ReportPair], published: Sequence[Mapping[str, Any]] = ()) -> Verdict:
    """`pairs`: one for each task of the gate. `published`: the reports on its own tasks of the version it would replace.

    Raises GateError when a pair is missing or not comparable.
    """
    by_task = {_checked(pair)["task"]: pair for pair in pairs}
    missing = [task for task in (*gate.own, *gate.others) if task not in by_task]
    if missing:
        raise GateError(f"no reports on {', '.join(missing)}; the gate asks for them")
    own = _mean_difference([by_task[task] for task in gate.own])
    tasks = {task: _mean_difference([by_task[task]]) for task in (*gate.own, *gate.others)}
    refusals = []
    if own.low <= gate.min_gain:
        refusals.append(
            f"on its own domain it gains {_points(own)}; the lower end must be above {100 * gate.min_gain:.1f}"
        )
    refusals += [
        f"on {task} it loses {-100 * tasks[task].mean:.1f} points; {100 * gate.tolerance:.1f} are allowed"
        for task in gate.others
        if tasks[task].mean < -gate.tolerance
    ]
    over_published = None
    if published:
        against = [(report, by_task[report["task"]][1]) for report in published]
        over_published = _mean_difference([_same_items(pair) for pair in against])
        if over_published.mean < 0:
            refusals.append(
                f"on its own domain it stands {_points(over_published)} beside the published version; a new one must "
                "not be worse"
            )
    return Verdict(own, tasks, tuple(refusals), gate.exception, over_published)


def _same_items(pair: ReportPair) -> ReportPair:
    before, after = pair
    for key in ("task", "split", "model", "num_items"):
        if before[key] != after[key]:
            raise GateError(
                f"the report of {before['adapter'] or 'the base'} has {key} {before[key]!r}, the specialist's {after[key]!r}"
            )
    return pair


def _checked(pair: ReportPair) -> Mapping[str, Any]:
    base, specialist = _same_items(pair)
    if base["adapter"] is not None or specialist["adapter"] is None:
        raise GateError(f"{base['task']}: expected the base's report first, then the specialist's")
    return base


def _mean_difference(pairs: Sequence[ReportPair]) -> Difference:
    """The mean of the tasks' differences, each task counting alike however many items it has."""
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    total = sum(pair[0]["num_items"] for pair in pairs)
    for base, specialist in pairs:
        weight = total / (len(pairs) * base["num_items"])
        for number, (score_before, score_after) in enumerate(paired_scores(base, specialist)):
            before[f"{base['task']}/{number}"] = weight * score_before
            after[f"{base['task']}/{number}"] = weight * score_after
    return paired_difference(before, after, seed=pairs[0][1]["seed"])


def _points(difference: Difference) -> str:
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
