"""Headlines about gold: where do they say the price goes (public name: the gold news headlines of FinGPT and FrugalGPT).

Training rows only. The labels are those of the file, which are noisy.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files
from specialists.evaluation.task import Split, TaskDataError, open_text

_LABELS = ("up", "down", "neutral", "none")
_OPTIONS = ("It goes up", "It goes down", "It stays about the same", "It says nothing about the price")


@dataclass(frozen=True)
class Headlines(MultipleChoice):
    """Four options, the same for every headline."""

    name = "headlines"
    files: ClassVar[Files] = {"train": ("gold_headlines/headlines_train.csv",)}

    split: Split = "train"

    def read_file(self, path: Path) -> Iterable[Any]:
        try:
            with open_text(path) as file:
                return list(csv.reader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise TaskDataError(f"cannot read {path}: {error}") from error

    def group(self, row: Any) -> str:
        return str(row[0])

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        text, label, _ = row
        headline = text.removeprefix("Q: ").removesuffix("\nA:").strip()
        stem = f'What does this headline say of the price of gold?\n"{headline}"'
        yield ChoiceItem(row_id, stem, _OPTIONS, _LABELS.index(label), label)
