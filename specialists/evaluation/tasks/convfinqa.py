"""ConvFinQA: conversations of calculations over a page of a report (public name: czyssrs/ConvFinQA). Training rows only.

Every turn is an item; the turns before it stand in the conversation with their right answers. The context is
bounded like TAT-QA's. An answer is right within a half percent, and as a share or a percentage alike.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from specialists.evaluation.arithmetic import format_value, run_steps
from specialists.evaluation.context import fit_context
from specialists.evaluation.file_task import Files, FileTask
from specialists.evaluation.last_line import MARK, read_last_line, rewrite_last_line
from specialists.evaluation.number_answer import find_numbers
from specialists.evaluation.task import Grade, Message, Split, read_json
from specialists.evaluation.tasks.tatqa import MAX_CONTEXT_TOKENS

INSTRUCTION = 'Give the calculation if there is one, and end with a line of the form "Answer: <number>".'

_TOLERANCE = 0.005
_PERCENT = re.compile(r"([\d.]+)%")


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a conversation; `earlier` are the questions before it with their references."""

    id: str
    question: str
    context: str
    steps: tuple[tuple[str, float | str], ...]
    earlier: tuple[tuple[str, str], ...]
    category: str

    @property
    def answer(self) -> float | str:
        return self.steps[-1][1]


@dataclass(frozen=True)
class ConvFinQA(FileTask[Turn]):
    """The reference is the calculation, a step a line."""

    name = "convfinqa"
    files: ClassVar[Files] = {"train": ("convfinqa/convfinqa_dev.json.gz",)}

    split: Split = "train"
    max_new_tokens: int = 160

    def read_file(self, path: Path) -> Iterable[Any]:
        rows: Iterable[Any] = read_json(path)
        return rows

    def group(self, row: Any) -> str:
        """The page of the report."""
        return str(row["id"]).split("_", 1)[1].rsplit("-", 1)[0]

    def parse(self, row: Any, row_id: str) -> Iterable[Turn]:
        table = row["table"].strip().replace("- |", "|", 1)
        paragraphs = [sentence.strip() for sentence in row["text"].split(" . ") if sentence.strip()]
        earlier: list[tuple[str, str]] = []
        # The whole conversation chooses the paragraphs, so that its turns share one context.
        context = fit_context(table, paragraphs, " ".join(row["questions"]), MAX_CONTEXT_TOKENS)
        for number, (question, program) in enumerate(zip(row["questions"], row["programs"], strict=True)):
            steps = tuple(run_steps(_PERCENT.sub(r"(\1 / 100)", program)))
            yield Turn(f"{row_id}/{number}", question, context, steps, tuple(earlier), f"turn {number + 1}")
            earlier.append((question, _show(steps)))

    def prompt(self, item: Turn) -> list[Message]:
        """The context goes with the first question, the instruction with every one."""
        messages: list[Message] = []
        for question, reference in (*item.earlier, (item.question, "")):
            context = "" if messages else f"{item.context}\n\n"
            messages.append({"role": "user", "content": f"{context}{question}\n\n{INSTRUCTION}"})
            if reference:
                messages.append({"role": "assistant", "content": reference})
        return messages

    def grade(self, item: Turn, text: str) -> Grade:
        stated = read_last_line(text)
        return Grade(
            correct=_agrees(stated.answer, item.answer),
            well_formed=stated.is_marked,
            extracted=stated.answer or None,
            expected=format_value(item.answer),
        )

    def reference(self, item: Turn) -> str:
        return _show(item.steps)

    def rewrite(self, item: Turn, text: str) -> str | None:
        return rewrite_last_line(text, format_value(item.answer))


def _show(steps: tuple[tuple[str, float | str], ...]) -> str:
    calculated = [
        f"{written} = {format_value(value)}" for written, value in steps if written != format_value(value)
    ]
    return "\n".join([*calculated, f"{MARK} {format_value(steps[-1][1])}"])


def _agrees(stated: str, answer: float | str) -> bool:
    if isinstance(answer, str):
        return stated.lower().startswith(answer)
    numbers = [float(number) for number in find_numbers(stated)]
    readings = [numbers[0], numbers[0] / 100] if numbers else []
    return any(abs(reading - answer) <= _TOLERANCE * max(abs(answer), 1e-9) for reading in readings)
