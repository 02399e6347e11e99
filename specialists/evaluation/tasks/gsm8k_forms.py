"""GSM8K's training problems in the forms of the other mathematics tasks, for training and not for scores.

A specialist that sees one ending only uses it everywhere: `math` ended AQuA's questions with a number where a letter was
asked for (docs/experiments.md). A solution found right in one form is right in the others but for its ending.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from specialists.evaluation.boxed import find_boxed
from specialists.evaluation.choice import ChoiceItem, move_answer
from specialists.evaluation.file_task import Files
from specialists.evaluation.letters import read_letter
from specialists.evaluation.number_answer import (
    extract_answer,
    find_numbers,
    format_number,
    solution_body,
)
from specialists.evaluation.task import Message
from specialists.evaluation.tasks.aqua import AQuA
from specialists.evaluation.tasks.competition_math import INSTRUCTION
from specialists.evaluation.tasks.gsm8k import GSM8K, WordProblem

NUM_OPTIONS = 5  # as AQuA has
_TRAIN: Files = {"train": GSM8K.files["train"]}


@dataclass(frozen=True)
class GSM8KBoxed(GSM8K):
    """Asked as MATH-500 is: the answer in a box."""

    name = "gsm8k_boxed"
    files: ClassVar[Files] = _TRAIN

    def prompt(self, item: WordProblem) -> list[Message]:
        return [{"role": "user", "content": f"{item.question}\n\n{INSTRUCTION}"}]

    def rewrite(self, item: WordProblem, text: str) -> str | None:
        """The reasoning up to its own box, if it boxes the answer; else with a last sentence that does."""
        body = solution_body(text)
        boxed = find_boxed(body)
        if boxed and find_numbers(boxed[-1]) == [item.answer]:
            return body
        if boxed or not find_numbers(body):
            return None
        return f"{body}\n\nThe answer is $\\boxed{{{format_number(item.answer)}}}$."


@dataclass(frozen=True)
class GSM8KOptions(AQuA):
    """Asked as AQuA is: five options, the wrong ones being numbers that occur on the way to the right one or lie near it."""

    name = "gsm8k_options"
    files: ClassVar[Files] = _TRAIN
    val_share = 0.0

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        reasons, marked = row["answer"].rsplit("####", 1)
        answer = find_numbers(marked)[-1]
        generator = random.Random(row_id)
        wrong = _wrong_answers(answer, find_numbers(f"{row['question']} {reasons}"), generator)
        options = tuple(format_number(number) for number in (answer, *wrong))
        item = ChoiceItem(row_id, row["question"], options, 0)
        yield move_answer(item, generator.randrange(NUM_OPTIONS), generator)

    def reference(self, item: ChoiceItem) -> str:
        return ""  # the data's own short solutions teach no reasoning

    def rewrite(self, item: ChoiceItem, text: str) -> str | None:
        """The reasoning, and the letter of what it comes to; None when that is another option or none."""
        right = Fraction(item.options[item.answer])
        stated = extract_answer(text)
        if stated != right and read_letter(text, item.options) != item.letter:
            return None
        body = _without_letter(solution_body(text))
        return f"{body}\nAnswer: {item.letter}" if find_numbers(body) else None


def _wrong_answers(answer: Fraction, on_the_way: list[Fraction], generator: random.Random) -> list[Fraction]:
    """Four numbers that differ from the answer and from each other, half of them from the way where it has as many."""
    wrong = [number for number in dict.fromkeys(on_the_way) if number not in (answer, 0, 1)]
    wrong = generator.sample(wrong, min(len(wrong), 2))
    near = [answer * 2, answer * 10]
    near += [answer + sign * step for step in (1, 2, 3, 4, 5, 10, 20) for sign in (-1, 1)]
    generator.shuffle(near)
    # Of the answer's own sign: nobody owes minus three apples.
    usable = [
        number
        for number in near
        if (number < 0 if answer < 0 else number > 0) and number not in (answer, *wrong)
    ]
    return (wrong + list(dict.fromkeys(usable)))[: NUM_OPTIONS - 1]


def _without_letter(body: str) -> str:
    return re.sub(r"\n+\W*answer:.*$", "", body, flags=re.IGNORECASE).rstrip()
