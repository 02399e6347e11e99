"""Multiple choice: options A, B, C ... are listed, one letter is asked for, and the letter is graded.

The options stand in the order of the data, so that scores compare with published ones; training rows come
from `balance_positions`, which gives each place the right option equally often.
"""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from specialists.evaluation.file_task import FileTask
from specialists.evaluation.letters import LETTERS, read_letter
from specialists.evaluation.task import Grade, Message

INSTRUCTION = "Answer with the letter of the correct option only."

# Options that speak of other options stay where they are.
_REFERS = re.compile(
    r"\b(?:all|none|both|neither|any|todas|todos|ninguna|ninguno|ambas|anteriores?)\b|\b[1-5A-E] (?:y|and) [1-5A-E]\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """One question with its options; `answer` is the index of the right one, `rationale` its reasons if known."""

    id: str
    stem: str
    options: tuple[str, ...]
    answer: int
    category: str = ""
    rationale: str = ""

    def __post_init__(self) -> None:
        if not 2 <= len(self.options) <= len(LETTERS) or not 0 <= self.answer < len(self.options):
            raise ValueError(f"answer {self.answer} of {len(self.options)} options")

    @property
    def listed(self) -> str:
        """The options, each on a line behind its letter."""
        return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=False))

    @property
    def question(self) -> str:
        return f"{self.stem}\n\n{self.listed}"

    @property
    def letter(self) -> str:
        return LETTERS[self.answer]

    @property
    def may_be_shuffled(self) -> bool:
        """Not where an option speaks of others, nor where reasons may name options by their letters."""
        return not self.rationale and not any(_REFERS.search(option) for option in self.options)


def move_answer(item: ChoiceItem, position: int, generator: random.Random) -> ChoiceItem:
    """The same question with the right option at `position` and the others in a random order."""
    others = [option for index, option in enumerate(item.options) if index != item.answer]
    generator.shuffle(others)
    options = (*others[:position], item.options[item.answer], *others[position:])
    return replace(item, options=options, answer=position)


def balance_positions(items: Sequence[ChoiceItem], seed: int) -> list[ChoiceItem]:
    """Options shuffled so that among items of n options each place is right once in n; order of items kept."""
    generator = random.Random(seed)
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        if item.may_be_shuffled:
            by_size[len(item.options)].append(index)
    balanced = list(items)
    for size, indices in sorted(by_size.items()):
        positions = [place % size for place in range(len(indices))]
        generator.shuffle(positions)
        for index, position in zip(indices, positions, strict=True):
            balanced[index] = move_answer(items[index], position, generator)
    return balanced


@dataclass(frozen=True)
class MultipleChoice(FileTask[ChoiceItem]):
    """Asks for the letter alone; subclasses only read their files."""

    instruction: ClassVar[str] = INSTRUCTION

    max_new_tokens: int = 24  # some say a sentence around the letter

    def prompt(self, item: ChoiceItem) -> list[Message]:
        return [{"role": "user", "content": f"{item.question}\n\n{self.instruction}"}]

    def grade(self, item: ChoiceItem, text: str) -> Grade:
        letter = read_letter(text, item.options)
        return Grade(
            correct=letter == item.letter,
            well_formed=self.is_well_formed(item, text),
            extracted=letter,
            expected=item.letter,
        )

    def is_well_formed(self, item: ChoiceItem, text: str) -> bool:
        """The letter of an option and nothing else; a full stop is forgiven."""
        letter = text.strip().removesuffix(".")
        return len(letter) == 1 and letter in LETTERS[: len(item.options)]

    def reference(self, item: ChoiceItem) -> str:
        return item.letter

    def rewrite(self, item: ChoiceItem, text: str) -> str | None:
        return item.letter
