"""SocialIQA: what people want, feel and do next (public name: allenai/social_i_qa)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files

_KINDS = ("want", "need", "feel", "describe", "happen", "why")


@dataclass(frozen=True)
class SocialIQA(MultipleChoice):
    """`train` is the set's old test file, `test` every second row of the development set."""

    name = "socialiqa"
    files: ClassVar[Files] = {
        "train": ("socialiqa/socialIQa_v1.4_tst.jsonl",),
        "test": ("socialiqa/dev_even.jsonl",),
    }

    def group(self, row: Any) -> str:
        return str(row["context"])

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        options = (row["answerA"], row["answerB"], row["answerC"])
        asked = row["question"].lower()
        kind = next((kind for kind in _KINDS if kind in asked), "other")
        stem = f"{row['context']} {row['question']}"
        yield ChoiceItem(row_id, stem, options, "ABC".index(row["correct"]), kind)
