"""What one evaluation found: a small JSON report, beside the log of its answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialists.evaluation.analysis import analyze
from specialists.evaluation.answer import GradedAnswer
from specialists.evaluation.bootstrap import bootstrap_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The measurement of one model on one task.

    `accuracy` is the share of right answers, `score` the mean credit (F1, ROUGE-L) where the task gives some, the
    same otherwise; the intervals are 95% bootstrap intervals. `adapter` is None for the base. `num_reused` answers were
    given in an earlier measurement, and `seconds` are those of the others.
    """

    task: str
    split: str
    model: str
    adapter: str | None
    num_items: int
    accuracy: float
    interval: tuple[float, float]
    score: float
    score_interval: tuple[float, float]
    format_adherence: float
    num_cut: int
    num_tokens: int
    num_reused: int
    seconds: float
    seed: int
    commit: str
    machine: str
    date: str
    analysis: dict[str, Any]
    answers: tuple[GradedAnswer, ...]
    quantization: str = "none"
    limit: int | None = None
    rewriting: str | None = None

    @property
    def mean_tokens(self) -> float:
        return self.num_tokens / self.num_items

    @property
    def scores(self) -> dict[str, float]:
        """Each item's credit, for paired comparisons."""
        return {answer.id: answer.grade.score for answer in self.answers}

    @property
    def gives_credit(self) -> bool:
        return any(answer.grade.credit is not None for answer in self.answers)

    @property
    def _subject(self) -> str:
        quantized = "" if self.quantization == "none" else f" ({self.quantization})"
        rewritten = f", {self.rewriting}" if self.rewriting else ""
        return f"{self.adapter or 'base'}{quantized}{rewritten}"

    def summary(self) -> str:
        """One line for people."""
        low, high = (100 * bound for bound in self.interval)
        credit = f", score {100 * self.score:.1f}" if self.gives_credit else ""
        return (
            f"{self.task}/{self.split}  {self._subject}: accuracy {100 * self.accuracy:.1f}% "
            f"[{low:.1f}, {high:.1f}]{credit}, format {100 * self.format_adherence:.1f}%, {self.num_items} items, "
            f"{self.mean_tokens:.0f} tokens each, {self.num_cut} cut, {self.seconds:.0f} s"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the texts; `correct` (ids) and `scores` (credits) are for paired comparisons."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "answers"}
        fields["correct"] = [answer.id for answer in self.answers if answer.grade.correct]
        if self.gives_credit:
            fields["scores"] = {key: round(score, 4) for key, score in self.scores.items()}
        return fields

    def write(self, path: Path) -> None:
        """Renamed into place when complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)


def paired_scores(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Of two written reports of the same items: each item's credit (1 or 0 where the task gives none) in both."""
    first, second = _item_scores(before), _item_scores(after)
    pairs = [(first.get(key, 0.0), second.get(key, 0.0)) for key in sorted({*first, *second})]
    # Reports name only the items that scored; the others are nameless zeros on both sides.
    return pairs + [(0.0, 0.0)] * (before["num_items"] - len(pairs))


def _item_scores(report: Mapping[str, Any]) -> dict[str, float]:
    return dict(report["scores"]) if "scores" in report else dict.fromkeys(report["correct"], 1.0)


def summarize_answers(answers: Sequence[GradedAnswer], seed: int) -> dict[str, Any]:
    """The fields of a Report that are statistics of its answers. Raises ValueError when there are none."""
    right = [float(answer.grade.correct) for answer in answers]
    scores = [answer.grade.score for answer in answers]
    interval = bootstrap_interval(right, seed)
    return {
        "num_items": len(answers),
        "accuracy": sum(right) / len(right),
        "interval": interval,
        "score": sum(scores) / len(scores),
        "score_interval": interval if scores == right else bootstrap_interval(scores, seed),
        "format_adherence": sum(answer.grade.well_formed for answer in answers) / len(answers),
        "num_cut": sum(answer.is_cut for answer in answers),
        "num_tokens": sum(answer.num_tokens for answer in answers),
        "num_reused": sum(answer.is_reused for answer in answers),
        "analysis": analyze(answers),
        "answers": tuple(answers),
    }
