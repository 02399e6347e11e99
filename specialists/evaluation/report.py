"""What one evaluation found, and its two files: a small JSON report and the answers beside it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specialists.evaluation.bootstrap import bootstrap_interval
from specialists.evaluation.task import Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswer:
    """One item's answer and its grade."""

    id: str
    text: str
    num_tokens: int
    is_cut: bool
    grade: Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The measurement of one model on one task. `interval` is the 95% bootstrap interval of the accuracy."""

    task: str
    split: str
    model: str
    adapter: str | None
    num_items: int
    accuracy: float
    interval: tuple[float, float]
    format_adherence: float
    num_cut: int
    num_tokens: int
    seconds: float
    seed: int
    commit: str
    machine: str
    date: str
    answers: tuple[GradedAnswer, ...]
    quantization: str = "none"

    @property
    def mean_tokens(self) -> float:
        return self.num_tokens / self.num_items

    @property
    def _of_quantization(self) -> str:
        return "" if self.quantization == "none" else f" ({self.quantization})"

    def summary(self) -> str:
        """One line for people."""
        low, high = (100 * bound for bound in self.interval)
        subject = f"{self.adapter or 'base'}{self._of_quantization}"
        return (
            f"{self.task}/{self.split}  {subject}: accuracy {100 * self.accuracy:.1f}% "
            f"[{low:.1f}, {high:.1f}], format {100 * self.format_adherence:.1f}%, {self.num_items} items, "
            f"{self.mean_tokens:.0f} tokens each, {self.num_cut} cut, {self.seconds:.0f} s"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the texts; `correct` holds the ids that were right, for paired comparisons."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "answers"}
        correct = [answer.id for answer in self.answers if answer.grade.correct]
        return {**fields, "correct": correct}

    def write(self, path: Path) -> None:
        """Write `path` and `<path stem>.answers.jsonl`, each renamed into place when complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(asdict(answer), ensure_ascii=False) for answer in self.answers)
        _write_whole(path.with_suffix(".answers.jsonl"), "".join(f"{line}\n" for line in lines))
        _write_whole(path, json.dumps(self.to_json(), indent=2) + "\n")


def summarize_answers(answers: Sequence[GradedAnswer], seed: int) -> dict[str, Any]:
    """The fields of a Report that are statistics of its answers. Raises ValueError when there are none."""
    scores = [float(answer.grade.correct) for answer in answers]
    interval = bootstrap_interval(scores, seed)
    return {
        "num_items": len(answers),
        "accuracy": sum(scores) / len(scores),
        "interval": interval,
        "format_adherence": sum(answer.grade.well_formed for answer in answers) / len(answers),
        "num_cut": sum(answer.is_cut for answer in answers),
        "num_tokens": sum(answer.num_tokens for answer in answers),
        "answers": tuple(answers),
    }


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
