"""Winogrande: which of two names or things fills the blank (public name: allenai/winogrande, train_l, validation)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files

_REQUEST = "What does the blank _ stand for?"


@dataclass(frozen=True)
class Winogrande(MultipleChoice):
    """`train` is the large training set; `test` every second row of the development set."""

    name = "winogrande"
    files: ClassVar[Files] = {
        "train": ("winogrande/winogrande_train_l.jsonl.gz",),
        "test": ("winogrande/dev_even.jsonl",),
    }

    def group(self, row: Any) -> str:
        """Sentences come as twins that differ in a word."""
        return str(row["qID"]).rsplit("-", 1)[0]

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        options = (row["option1"], row["option2"])
        yield ChoiceItem(row_id, f"{row['sentence']}\n{_REQUEST}", options, int(row["answer"]) - 1)
