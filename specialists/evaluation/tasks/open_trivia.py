"""OpenTriviaQA: trivia with two to five options (public name: uberspot/OpenTriviaQA). Training rows only.

Two tasks read it: with the options, and without them where the question stands alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files
from specialists.evaluation.question_kind import question_kind
from specialists.evaluation.short_answer import ShortAnswer, ShortItem
from specialists.evaluation.task import Split

# A question of one thing, not of a choice among options that are not shown, and an answer that names something.
_ASKS = re.compile(
    r"^(?:(?:in|on|of|at|by|for|from|to|with) )?(?:who|whom|whose|what|which|where|when|how many|how much)\b",
    re.IGNORECASE,
)
_NEEDS_OPTIONS = re.compile(
    r"\b(?:these|those|following|not|except|statements?|true|false|correct|best describes)\b", re.IGNORECASE
)
_NO_NAME = re.compile(
    r"\b(?:all|none|both|neither|true|false|yes|no|these|the above)\b|\bor\b", re.IGNORECASE
)
_MAX_QUESTION_WORDS, _MAX_ANSWER_WORDS = 24, 5


@dataclass(frozen=True)
class _OpenTriviaRows:
    """What both tasks say of the file."""

    files: ClassVar[Files] = {"train": ("opentriviaqa/opentriviaqa.jsonl.gz",)}
    val_share: ClassVar[float] = 0.01

    split: Split = "train"

    def group(self, row: Any) -> str:
        return str(row["question"])


@dataclass(frozen=True)
class OpenTrivia(_OpenTriviaRows, MultipleChoice):
    """Options in the order of the data."""

    name = "opentriviaqa"

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        options = tuple(row["options"])
        yield ChoiceItem(row_id, row["question"], options, options.index(row["answer"]), row["category"])


@dataclass(frozen=True)
class OpenTriviaShort(_OpenTriviaRows, ShortAnswer):
    """The questions that need no options, answered with a name, a word or a number."""

    name = "opentriviaqa_short"

    def parse(self, row: Any, row_id: str) -> Iterable[ShortItem]:
        question, answer = row["question"].strip(), row["answer"].strip()
        if stands_alone(question, answer):
            yield ShortItem(row_id, question, (answer,), category=question_kind(question))


def stands_alone(question: str, answer: str) -> bool:
    """Whether one can answer without seeing the options, in a few words."""
    is_question = question.endswith("?") and len(question.split()) <= _MAX_QUESTION_WORDS
    is_name = 0 < len(answer.split()) <= _MAX_ANSWER_WORDS and not _NO_NAME.search(answer)
    return is_question and is_name and bool(_ASKS.search(question)) and not _NEEDS_OPTIONS.search(question)
