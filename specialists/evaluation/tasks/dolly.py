"""Dolly: open instructions of eight kinds, compared with a person's answer (public name: databricks/databricks-dolly-15k).

The score is ROUGE-L (F measure, stemmed, by the package rouge-score). There is no right and wrong here: `correct`
only says that the score reaches `GOOD`, an arbitrary line; look at the score. Training and validation rows only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from specialists.evaluation.context import fit_text
from specialists.evaluation.file_task import Files, FileTask
from specialists.evaluation.task import Grade, Message, Split

GOOD = 0.3
MAX_CONTEXT_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Instruction:
    """What was asked, perhaps with a text to work on, and what a person answered."""

    id: str
    question: str
    context: str
    response: str
    category: str


@dataclass(frozen=True)
class Dolly(FileTask[Instruction]):
    """Well formed is any answer that says something."""

    name = "dolly"
    files: ClassVar[Files] = {"train": ("dolly15k/databricks-dolly-15k.jsonl.gz",)}
    val_share = 0.02

    split: Split = "train"
    max_new_tokens: int = 256

    def parse(self, row: Any, row_id: str) -> Iterable[Instruction]:
        context = fit_text(row["context"].strip(), MAX_CONTEXT_TOKENS)
        yield Instruction(
            row_id, row["instruction"].strip(), context, row["response"].strip(), row["category"]
        )

    def prompt(self, item: Instruction) -> list[Message]:
        content = f"{item.question}\n\n{item.context}" if item.context else item.question
        return [{"role": "user", "content": content}]

    def grade(self, item: Instruction, text: str) -> Grade:
        score = rouge_l(text, item.response)
        return Grade(correct=score >= GOOD, well_formed=bool(text.strip()), credit=score)

    def reference(self, item: Instruction) -> str:
        return item.response

    def rewrite(self, item: Instruction, text: str) -> str | None:
        return text.strip() or None


def rouge_l(text: str, reference: str) -> float:
    """F measure of the longest common subsequence of stemmed words."""
    return float(_scorer().score(reference, text)["rougeL"].fmeasure)


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
