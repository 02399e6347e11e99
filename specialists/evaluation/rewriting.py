"""The stress test: items put differently without changing what is right, to see what a score hangs on.

`option_order` shuffles the options; `option_length` says half of them twice over, drawn by lot, so that neither length nor
being the odd one out tells the right one; `more_options` adds the right option of another question as a wrong one;
`question_form` puts the instruction on the other side of the question; `aside` begins with a sentence on something else.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from specialists.evaluation.choice import ChoiceItem, move_answer
from specialists.evaluation.file_task import FileTask, Language
from specialists.evaluation.letters import LETTERS
from specialists.evaluation.task import Grade, Message, TaskDataError

_ASIDES: Mapping[Language, str] = {
    "en": "By the way, the library on the corner closes at six today.",
    "es": "Por cierto, la biblioteca de la esquina cierra hoy a las seis.",
}
_THAT_IS: Mapping[Language, str] = {"en": "that is", "es": "es decir"}


def _shuffle_options(items: Sequence[ChoiceItem], seed: int, language: Language) -> list[ChoiceItem]:
    generator = random.Random(seed)
    return [
        move_answer(item, generator.randrange(len(item.options)), generator) if item.may_be_shuffled else item
        for item in items
    ]


def _lengthen_half(items: Sequence[ChoiceItem], seed: int, language: Language) -> list[ChoiceItem]:
    generator = random.Random(seed)

    def lengthen(item: ChoiceItem) -> tuple[str, ...]:
        count = len(item.options)
        longer = generator.sample(range(count), count // 2 + generator.randrange(count % 2 + 1))
        return tuple(
            f"{option.rstrip('.')}, {_THAT_IS[language]}, {option}" if index in longer else option
            for index, option in enumerate(item.options)
        )

    return [replace(item, options=lengthen(item)) for item in items]


def _add_option(items: Sequence[ChoiceItem], seed: int, language: Language) -> list[ChoiceItem]:
    generator = random.Random(seed)

    def add(item: ChoiceItem) -> ChoiceItem:
        known = {option.lower() for option in item.options}
        if len(item.options) == len(LETTERS) or not item.may_be_shuffled:
            return item
        for _ in range(10):
            other = generator.choice(items)
            option = other.options[other.answer]
            if option.lower() not in known:
                return replace(item, options=(*item.options, option))
        return item

    return [add(item) for item in items]


def _swap_instruction(content: str, language: Language) -> str:
    """The instruction is the last paragraph, or the first one where code ends the prompt."""
    if content.endswith("```"):
        first, _, rest = content.partition("\n\n")
        return f"{rest}\n\n{first}" if rest else content
    rest, _, last = content.rpartition("\n\n")
    return f"{last}\n\n{rest}" if rest else content


def _add_aside(content: str, language: Language) -> str:
    return f"{_ASIDES[language]} {content}"


ItemRewriting = Callable[[Sequence[ChoiceItem], int, Language], list[ChoiceItem]]
PromptRewriting = Callable[[str, Language], str]

ITEM_REWRITINGS: Mapping[str, ItemRewriting] = {
    "option_order": _shuffle_options,
    "option_length": _lengthen_half,
    "more_options": _add_option,
}
PROMPT_REWRITINGS: Mapping[str, PromptRewriting] = {"question_form": _swap_instruction, "aside": _add_aside}


@dataclass(frozen=True)
class RewrittenTask:
    """A task whose items or prompts are put differently; graded as the task itself grades."""

    task: FileTask[Any]
    rewriting: str
    seed: int

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def max_new_tokens(self) -> int:
        return self.task.max_new_tokens

    def load(self, data: Path) -> list[Any]:
        """Raises TaskDataError when the rewriting is one of options and the task has none."""
        items = self.task.load(data)
        if self.rewriting in PROMPT_REWRITINGS:
            return items
        if not all(isinstance(item, ChoiceItem) for item in items):
            raise TaskDataError(f"{self.rewriting} rewrites options, and task {self.name} has none")
        return list(ITEM_REWRITINGS[self.rewriting](items, self.seed, self.task.language))

    def prompt(self, item: Any) -> list[Message]:
        messages = self.task.prompt(item)
        if self.rewriting not in PROMPT_REWRITINGS:
            return messages
        content = PROMPT_REWRITINGS[self.rewriting](messages[-1]["content"], self.task.language)
        return [*messages[:-1], {**messages[-1], "content": content}]

    def grade(self, item: Any, text: str) -> Grade:
        return self.task.grade(item, text)

    def reference(self, item: Any) -> str:
        return self.task.reference(item)

    def rewrite(self, item: Any, text: str) -> str | None:
        return self.task.rewrite(item, text)


def rewritings_for(task: FileTask[Any], items: Sequence[Any]) -> list[str]:
    """The rewritings that make sense for a task."""
    has_options = all(isinstance(item, ChoiceItem) for item in items)
    return [*(ITEM_REWRITINGS if has_options else ()), *PROMPT_REWRITINGS]
