"""The log of sampled solutions: one JSON line per attempt, appended as it is graded; a kill loses one line.

The first line holds the settings of the run. Continuing a log under other settings is refused: its samples
would come from two different distributions under one name.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class AttemptLogError(ValueError):
    """The log cannot be continued; the message names the file and what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One sampled solution of one item, graded."""

    item_id: str
    sample: int
    text: str
    num_tokens: int
    is_cut: bool
    correct: bool
    well_formed: bool

    @property
    def key(self) -> str:
        return attempt_key(self.item_id, self.sample)


def attempt_key(item_id: str, sample: int) -> str:
    return f"{item_id}#{sample}"


class AttemptLog:
    """Append-only; opening it reads what an earlier run left. Use it as a context manager."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings = json.loads(json.dumps(dict(settings)))  # as it reads back: tuples are lists
        self.attempts: list[Attempt] = []

    def __enter__(self) -> Self:
        """Raises AttemptLogError when the file belongs to another run, OSError when it cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end = self._read() if self.path.exists() else 0
        self._file = self.path.open("r+b" if end else "wb")
        self._file.truncate(end)  # what follows the last whole line was cut off by a kill
        self._file.seek(end)
        if not end:
            self._write({"settings": self._settings})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self._write(asdict(attempt))

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def _read(self) -> int:
        """Load the whole lines; the offset behind the last of them, 0 when not even the first is whole."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if not lines:
            return 0
        try:
            settings = json.loads(lines[0])["settings"]
            self.attempts = [Attempt(**json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise AttemptLogError(f"{self.path} is not a log of attempts: {error}") from error
        self._refuse_other_settings(settings)
        return len(whole)

    def _refuse_other_settings(self, found: Mapping[str, Any]) -> None:
        names = sorted(found.keys() | self._settings.keys())
        differing = [name for name in names if found.get(name) != self._settings.get(name)]
        if differing:
            details = ", ".join(
                f"{name} was {found.get(name)!r}, now {self._settings.get(name)!r}" for name in differing
            )
            raise AttemptLogError(
                f"{self.path} was begun with other settings ({details}); choose another --out"
            )
