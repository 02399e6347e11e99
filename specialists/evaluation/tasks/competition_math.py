"""MATH-500 and AIME 2024: competition problems whose answer is an expression, compared by value.

Public names: HuggingFaceH4/MATH-500 (every second row), hendrycks/competition_math (train, answers only),
AI-MO/aimo-validation-aime. Equivalence is math-verify's, in a process of its own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.boxed import find_boxed
from specialists.evaluation.file_task import Files, FileTask
from specialists.evaluation.last_line import read_last_line
from specialists.evaluation.math_equivalence import is_equivalent
from specialists.evaluation.task import Grade, Message

INSTRUCTION = r"Reason step by step, and put the final answer within \boxed{}."

# A training problem that MATH-500 repeats with one sign changed.
_IN_MATH_500 = re.compile(r"roots of \$z\^4 ?[+-] ?z\^2 ?\+ ?1 = 0\$ are \$n\^")


@dataclass(frozen=True, slots=True)
class MathProblem:
    """One problem with its answer in LaTeX; `solution` is empty where only the answer is known."""

    id: str
    question: str
    answer: str
    solution: str = ""
    category: str = ""


@dataclass(frozen=True)
class CompetitionMath(FileTask[MathProblem]):
    """Well formed is an answer with a closed box."""

    max_new_tokens: int = 1024

    def prompt(self, item: MathProblem) -> list[Message]:
        return [{"role": "user", "content": f"{item.question}\n\n{INSTRUCTION}"}]

    def grade(self, item: MathProblem, text: str) -> Grade:
        boxed = find_boxed(text)
        stated = boxed[-1] if boxed else read_last_line(text).answer
        return Grade(
            correct=bool(stated) and is_equivalent(item.answer, stated),
            well_formed=bool(boxed),
            extracted=stated or None,
            expected=item.answer,
        )

    def reference(self, item: MathProblem) -> str:
        return item.solution

    def rewrite(self, item: MathProblem, text: str) -> str | None:
        return text.strip() if find_boxed(text) else None


class Math500(CompetitionMath):
    """`train` has answers without solutions: to sample from, not to copy."""

    name = "math500"
    files: ClassVar[Files] = {
        "train": ("math/math_train_answers.jsonl.gz",),
        "test": ("math/math500_even.jsonl",),
    }

    def parse(self, row: Any, row_id: str) -> Iterable[MathProblem]:
        if self.split == "test" or not _IN_MATH_500.search(row["problem"]):
            yield MathProblem(row_id, row["problem"], row["answer"], row.get("solution", ""), row["subject"])


class Aime2024(CompetitionMath):
    """Thirty problems with whole numbers from 0 to 999 as answers. For measuring only."""

    name = "aime2024"
    files: ClassVar[Files] = {"test": ("aime_amc/aime2024.jsonl",)}

    def parse(self, row: Any, row_id: str) -> Iterable[MathProblem]:
        yield MathProblem(row_id, row["problem"], str(int(row["answer"])), row["solution"])
