"""CommonsenseQA: everyday questions with five options (public name: tau/commonsense_qa, train, validation)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files
from specialists.evaluation.question_kind import question_kind


@dataclass(frozen=True)
class CommonsenseQA(MultipleChoice):
    """`test` is every second row of the development set."""

    name = "commonsenseqa"
    files: ClassVar[Files] = {
        "train": ("commonsenseqa/train_rand_split.jsonl.gz",),
        "test": ("commonsenseqa/dev_even.jsonl",),
    }

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        question = row["question"]
        labels = [choice["label"] for choice in question["choices"]]
        options = tuple(choice["text"] for choice in question["choices"])
        stem = question["stem"]
        yield ChoiceItem(row_id, stem, options, labels.index(row["answerKey"]), question_kind(stem))
