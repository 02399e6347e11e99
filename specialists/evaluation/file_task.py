"""Tasks whose rows lie in files under the data folder: which file is which split, and what is held out of it.

A set without a validation file of its own gives up a share of its training groups: a group (a document, a pair
of twins) is wholly on one side, decided by a hash of its key, so that it never depends on order or number of rows.
Rows of a test file are for measuring only; no split called `train` or `val` ever reads them.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeAlias

from specialists.evaluation.task import Grade, ItemT, Message, Split, TaskDataError, read_rows

Language = Literal["en", "es"]
Files: TypeAlias = Mapping[Split, tuple[str, ...]]  # under the data folder

_HOLD_OUT_SEED = 20


def is_held_out(key: str, share: float) -> bool:
    """Whether the group of that key belongs to validation; about `share` of all keys do."""
    digest = hashlib.sha256(f"{_HOLD_OUT_SEED}/{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


@dataclass(frozen=True)
class FileTask(ABC, Generic[ItemT]):
    """Loads items from the files of its split. Subclasses say how a row becomes items, how to ask and to grade."""

    name: ClassVar[str]
    files: ClassVar[Files]
    language: ClassVar[Language] = "en"  # of the questions
    val_share: ClassVar[float] = 0.05  # of train, where `files` has no val; 0: there is no val
    # What that share of train is: test, where no other test rows are at hand.
    held_out: ClassVar[Split] = "val"

    split: Split = "test"
    max_new_tokens: int = 16

    @abstractmethod
    def parse(self, row: Any, row_id: str) -> Iterable[ItemT]:
        """The items of a row; none when it is left out. A KeyError, TypeError or ValueError is a damaged row."""

    @abstractmethod
    def prompt(self, item: ItemT) -> list[Message]: ...

    @abstractmethod
    def grade(self, item: ItemT, text: str) -> Grade: ...

    @abstractmethod
    def reference(self, item: ItemT) -> str: ...

    @abstractmethod
    def rewrite(self, item: ItemT, text: str) -> str | None: ...

    def read_file(self, path: Path) -> Iterable[Any]:
        """The rows of one file."""
        return read_rows(path)

    def group(self, row: Any) -> str:
        """What must not be on both sides of the validation split; the row itself where rows are independent."""
        return json.dumps(row, sort_keys=True)

    def load(self, data: Path) -> list[ItemT]:
        """Raises TaskDataError naming the file, or the splits there are."""
        if self.split in self.files:
            source = self.split
        elif self.split == self.held_out and "train" in self.files and self.val_share:
            source = "train"
        else:
            raise TaskDataError(f"{self.name} has no {self.split!r} split, only {self.splits}")
        holds_out = source == "train" and self.held_out not in self.files and self.val_share > 0
        items: list[ItemT] = []
        index = 0
        for name in self.files[source]:
            for row in self.read_file(data / name):
                if not holds_out or self._is_held_out(row) == (self.split == self.held_out):
                    items.extend(self._parse(data / name, row, f"{self.name}/{source}/{index}"))
                index += 1
        return items

    @property
    def splits(self) -> list[str]:
        held_out = [self.held_out] if "train" in self.files and self.val_share else []
        return sorted({*self.files, *held_out})

    def _is_held_out(self, row: Any) -> bool:
        return is_held_out(self.group(row), self.val_share)

    def _parse(self, path: Path, row: Any, row_id: str) -> Iterator[ItemT]:
        try:
            yield from self.parse(row, row_id)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise TaskDataError(
                f"{path}, row {row_id.rsplit('/', 1)[1]}: not as expected ({problem})"
            ) from error
