"""What a task is: where its rows are, how a model is asked, and the one place that decides right and wrong.

Evaluation, rejection sampling, rewards and the publishing gate all call the same `Task.grade`, so they never
disagree on what "correct" means. This file knows no model and runs nothing.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeVar

Message = Mapping[str, str]
Split = Literal["train", "val", "test"]


class TaskDataError(ValueError):
    """The data of a task is missing or damaged; the message names the file (and the line)."""


class Item(Protocol):
    """One row of a task. `question` is what a real user would type, without any instruction on form."""

    @property
    def id(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def category(self) -> str:
        """The kind of item, for the error analysis: a subject, a question word; empty where there are none."""
        ...


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The verdict on one answer: `correct` is about the content, `well_formed` about the asked form."""

    correct: bool
    well_formed: bool
    extracted: str | None = None  # what was read out of the answer: a number, a letter, a program
    expected: str | None = None  # the right one in the same form, where there is one to show
    credit: float | None = None  # partial credit from 0 to 1 (F1, ROUGE-L), where the task's metric gives it
    detail: str = ""  # why it is wrong, when there is more to say: "timeout", "AssertionError ..."

    @property
    def score(self) -> float:
        """What the answer counts for: its credit, or 1 for right and 0 for wrong."""
        return float(self.correct) if self.credit is None else self.credit


class Task(Protocol[ItemT]):
    """A named set of items with its prompt and its grader. `grade` may be called from several threads."""

    @property
    def name(self) -> str: ...
    @property
    def max_new_tokens(self) -> int:
        """Enough for a full answer; a longer one is cut and graded as it stands."""
        ...

    def load(self, data: Path) -> list[ItemT]:
        """Read the items under the data folder. Raises TaskDataError naming the file."""
        ...

    def prompt(self, item: ItemT) -> list[Message]: ...

    def grade(self, item: ItemT, text: str) -> Grade: ...

    def reference(self, item: ItemT) -> str:
        """A known solution for a model to put into its own words; empty when the task has none to show."""
        ...

    def rewrite(self, item: ItemT, text: str) -> str | None:
        """A correct answer as it should have been written, to train on; None when it cannot be an example."""
        ...


def open_text(path: Path) -> IO[str]:
    """A text file, gzipped or not, as UTF-8."""
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a .json or .json.gz file. Raises TaskDataError naming the file."""
    try:
        with open_text(path) as file:
            return json.load(file)
    except (OSError, EOFError, ValueError) as error:
        raise TaskDataError(f"cannot read {path}: {error}") from error


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a .jsonl or .jsonl.gz file. Raises TaskDataError naming file and line."""
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_row(path, number, line)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TaskDataError(f"cannot read {path}: {error}") from error


def _parse_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise TaskDataError(f"{path}, line {number}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise TaskDataError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
    return row
