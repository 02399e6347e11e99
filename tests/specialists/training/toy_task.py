"""A task a random tiny model can get better at: write letters of the first half of the alphabet."""

from dataclasses import dataclass
from pathlib import Path

from specialists.evaluation.task import Grade, Message, Split


@dataclass(frozen=True)
class ToyItem:
    id: str
    question: str
    category: str = ""


@dataclass(frozen=True)
class EarlyLetters:
    """Credit is the share of the answer's letters that are a to m; short words are well formed."""

    split: Split = "test"
    name: str = "early"
    max_new_tokens: int = 8

    def load(self, data: Path) -> list[ToyItem]:
        return [ToyItem(f"early/{n}", f"Say {n}!") for n in range(24)]

    def prompt(self, item: ToyItem) -> list[Message]:
        return [{"role": "user", "content": item.question}]

    def grade(self, item: ToyItem, text: str) -> Grade:
        letters = [character for character in text.lower() if character.isalpha()]
        share = sum(character <= "m" for character in letters) / max(len(letters), 1)
        return Grade(correct=share > 0.9, well_formed=len(text) < 12, credit=share)

    def reference(self, item: ToyItem) -> str:
        return ""

    def rewrite(self, item: ToyItem, text: str) -> str | None:
        return None
