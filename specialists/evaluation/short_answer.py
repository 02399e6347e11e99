"""Questions answered with a name, a word or a number: exact match and F1 after the usual normalisation.

As in SQuAD and TriviaQA: lower case, without punctuation and articles, the best over all accepted answers. What
is compared is the answer without an opening such as "The answer is"; right means an exact match, the F1 of
the words is given as credit.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from specialists.evaluation.file_task import FileTask, Language
from specialists.evaluation.task import Grade, Message

MAX_WORDS = 12  # of a well-formed answer

_PUNCTUATION = re.compile(
    rf"[{re.escape(string.punctuation)}\u2018\u2019\u201c\u201d\xb4\xab\xbb\xbf\xa1\u2013\u2014]"
)
_ARTICLES = {
    "en": re.compile(r"\b(?:a|an|the)\b"),
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
}
_OPENING = re.compile(
    r"^\W*(?:(?:the\s+)?(?:correct\s+|final\s+)?answer(?:\s+is|:)|(?:la\s+)?respuesta(?:\s+correcta)?(?:\s+es|:))[\s:*\"]*",
    re.IGNORECASE,
)


def normalize(text: str, language: Language = "en") -> str:
    """Lower case, words only, articles dropped unless nothing else is left."""
    words = " ".join(_PUNCTUATION.sub("", text.lower().replace("_", " ")).split())
    return " ".join(_ARTICLES[language].sub(" ", words).split()) or words


def word_f1(answer: str, gold: str, language: Language = "en") -> float:
    """F1 of the normalised words, counted with their repetitions."""
    found, wanted = normalize(answer, language).split(), normalize(gold, language).split()
    num_common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * num_common / (len(found) + len(wanted)) if num_common else 0.0


def read_short_answer(text: str) -> str:
    """The first line that says something, without "The answer is" and without the final stop."""
    lines = (_OPENING.sub("", line).strip(" *\"'") for line in text.strip().splitlines())
    return next((line.removesuffix(".") for line in lines if line), "")


@dataclass(frozen=True, slots=True)
class ShortItem:
    """A question with all accepted answers, the preferred one first; `context` where it is to be read in a text."""

    id: str
    question: str
    answers: tuple[str, ...]
    context: str = ""
    category: str = ""

    def __post_init__(self) -> None:
        if not any(answer.strip() for answer in self.answers):
            raise ValueError("no answer")


def grade_short_answer(text: str, answers: Sequence[str], language: Language = "en") -> Grade:
    found = read_short_answer(text)
    exact = any(normalize(found, language) == normalize(answer, language) for answer in answers)
    return Grade(
        correct=exact and bool(found),
        well_formed="\n" not in text.strip() and 0 < len(text.split()) <= MAX_WORDS,
        extracted=found or None,
        expected=answers[0],
        credit=max(word_f1(found, answer, language) for answer in answers),
    )


@dataclass(frozen=True)
class ShortAnswer(FileTask[ShortItem]):
    """Asks for the answer without a sentence; subclasses read their files."""

    instruction: ClassVar[str] = "Answer with the name, word or number only."

    max_new_tokens: int = 32

    def prompt(self, item: ShortItem) -> list[Message]:
        return [{"role": "user", "content": f"{item.question}\n\n{self.instruction}"}]

    def grade(self, item: ShortItem, text: str) -> Grade:
        return grade_short_answer(text, item.answers, self.language)

    def reference(self, item: ShortItem) -> str:
        return item.answers[0]

    def rewrite(self, item: ShortItem, text: str) -> str | None:
        """The model's own wording of a right answer, without what stood around it."""
        return read_short_answer(text) or None
