"""AQuA: algebra word problems with five options, solved in steps (public name: deepmind/aqua_rat, "raw").

`test` is the set's test file, `train` and `val` its development file.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files
from specialists.evaluation.letters import LETTERS, read_letter

_ENDING = re.compile(r"\n?\W*(?:the\s+)?(?:correct\s+|final\s+)?(?:answer|ans|option)\b.*", re.IGNORECASE)


@dataclass(frozen=True)
class AQuA(MultipleChoice):
    """Reasoning first, then a last line `Answer: <letter>`."""

    name = "aqua"
    files: ClassVar[Files] = {"train": ("aqua/aqua_dev.jsonl",), "test": ("aqua/aqua_test.jsonl",)}
    val_share = 0.2
    instruction = 'Reason step by step, and end with a line of the form "Answer: <letter>".'

    max_new_tokens: int = 512

    def group(self, row: Any) -> str:
        return str(row["question"])

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        options = tuple(option.split(")", 1)[1].strip() for option in row["options"])
        answer = LETTERS.index(row["correct"])
        yield ChoiceItem(row_id, row["question"], options, answer, rationale=row["rationale"])

    def is_well_formed(self, item: ChoiceItem, text: str) -> bool:
        last_line = text.rstrip().rsplit("\n", 1)[-1].strip()
        return re.fullmatch(rf"Answer: [{LETTERS[: len(item.options)]}]", last_line) is not None

    def reference(self, item: ChoiceItem) -> str:
        return self._end(item, item.rationale) or f"Answer: {item.letter}"

    def rewrite(self, item: ChoiceItem, text: str) -> str | None:
        return self._end(item, text) if read_letter(text, item.options) == item.letter else None

    def _end(self, item: ChoiceItem, text: str) -> str | None:
        """The reasoning with its last statement of an answer replaced by the asked line; None without reasoning."""
        lines = text.strip().split("\n")
        while lines and (not lines[-1].strip() or _ENDING.fullmatch(lines[-1].strip())):
            lines.pop()
        return "\n".join([*lines, f"Answer: {item.letter}"]) if lines else None
