"""GSM8K: grade-school word problems with a number as answer (public name: openai/gsm8k, "main").

`test` is the first 660 rows of the test split. The prompt is the same for base and specialist.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from specialists.evaluation.file_task import Files, FileTask
from specialists.evaluation.number_answer import (
    end_with_answer,
    extract_answer,
    find_numbers,
    format_number,
    is_well_formed,
)
from specialists.evaluation.task import Grade, Message

INSTRUCTION = (
    'Reason step by step, and end with a line of the form "#### <answer>", the answer being a number.'
)

_CALCULATOR = re.compile(r"<<.*?>>")  # the data's own notes for a calculator, inside its solutions


@dataclass(frozen=True, slots=True)
class WordProblem:
    """One problem: the question, the reference solution in words, and the reference number."""

    id: str
    question: str
    solution: str
    answer: Fraction
    category: str = ""


@dataclass(frozen=True)
class GSM8K(FileTask[WordProblem]):
    """`train` is for sampling and training, `test` for measuring only."""

    name = "gsm8k"
    files: ClassVar[Files] = {"train": ("gsm8k/train.jsonl.gz",), "test": ("gsm8k/test_first660.jsonl",)}
    val_share = 0.0  # recipes hold out their own rows

    max_new_tokens: int = 512

    def parse(self, row: Any, row_id: str) -> Iterable[WordProblem]:
        solution, marked = row["answer"].rsplit("####", 1)
        solution = solution.strip()
        steps = f"{min(solution.count(chr(10)) + 1, 8)} steps"
        yield WordProblem(row_id, row["question"], solution, find_numbers(marked)[-1], steps)

    def prompt(self, item: WordProblem) -> list[Message]:
        return [{"role": "user", "content": f"{item.question}\n\n{INSTRUCTION}"}]

    def grade(self, item: WordProblem, text: str) -> Grade:
        answer = extract_answer(text)
        return Grade(
            correct=answer == item.answer,
            well_formed=is_well_formed(text),
            extracted=None if answer is None else format_number(answer),
            expected=format_number(item.answer),
        )

    def reference(self, item: WordProblem) -> str:
        return _CALCULATOR.sub("", item.solution)

    def rewrite(self, item: WordProblem, text: str) -> str | None:
        return end_with_answer(text, item.answer)
