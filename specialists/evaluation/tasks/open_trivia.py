"""OpenTriviaQA: trivia with two to five options (public name: uberspot/OpenTriviaQA). Training rows only."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files
from specialists.evaluation.task import Split


@dataclass(frozen=True)
class OpenTrivia(MultipleChoice):
    """Options in the order of the data."""

    name = "opentriviaqa"
    files: ClassVar[Files] = {"train": ("opentriviaqa/opentriviaqa.jsonl.gz",)}
    val_share = 0.01

    split: Split = "train"

    def group(self, row: Any) -> str:
        return str(row["question"])

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        options = tuple(row["options"])
        yield ChoiceItem(row_id, row["question"], options, options.index(row["answer"]), row["category"])
