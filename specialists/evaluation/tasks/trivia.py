"""TriviaQA, Natural Questions and WebQuestions without a context: what the model itself knows.

Public names: mandarjoshi/trivia_qa ("rc.nocontext"), google-research-datasets/nq_open, stanfordnlp/web_questions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from specialists.evaluation.file_task import Files
from specialists.evaluation.question_kind import question_kind
from specialists.evaluation.short_answer import ShortAnswer, ShortItem
from specialists.evaluation.task import Split, read_json


@dataclass(frozen=True)
class TriviaQA(ShortAnswer):
    """Trivia with many accepted spellings; `test` is 500 rows kept for measuring."""

    name = "triviaqa"
    files: ClassVar[Files] = {"train": ("triviaqa/train_1500.jsonl",), "test": ("triviaqa/eval_500.jsonl",)}

    def parse(self, row: Any, row_id: str) -> Iterable[ShortItem]:
        question = row["context"].removeprefix("Question: ").removesuffix("\nAnswer:").strip()
        answers = tuple(dict.fromkeys([_calm(row["answer"], row["aliases"]), *row["aliases"]]))
        yield ShortItem(row_id, question, answers, category=question_kind(question))


def _calm(answer: str, aliases: list[str]) -> str:
    """`DAN DARE` as `Dan Dare`, where that is one of the aliases."""
    if not answer.isupper():
        return answer
    spelt = [alias for alias in aliases if alias.upper() == answer and not alias.isupper()]
    return spelt[0] if spelt else answer


@dataclass(frozen=True)
class NaturalQuestions(ShortAnswer):
    """What people typed into a search engine. Training rows only."""

    name = "nq"
    files: ClassVar[Files] = {
        "train": ("nq_open/dev_even.jsonl", "nq_open/NQ-open.efficientqa.dev.1.1.jsonl")
    }

    split: Split = "train"

    def group(self, row: Any) -> str:
        return str(row["question"])

    def parse(self, row: Any, row_id: str) -> Iterable[ShortItem]:
        question = _as_question(row["question"])
        yield ShortItem(row_id, question, tuple(row["answer"]), category=question_kind(question))


@dataclass(frozen=True)
class WebQuestions(ShortAnswer):
    """Questions about Freebase facts. Training rows only."""

    name = "webquestions"
    files: ClassVar[Files] = {"train": ("webquestions/trainmodel.json",), "val": ("webquestions/val.json",)}

    split: Split = "train"

    def read_file(self, path: Path) -> Iterable[Any]:
        rows: Iterable[Any] = read_json(path)
        return rows

    def parse(self, row: Any, row_id: str) -> Iterable[ShortItem]:
        question = _as_question(row["qText"])
        yield ShortItem(row_id, question, tuple(row["answers"]), category=question_kind(question))


def _as_question(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('?').rstrip()}?"
