"""A log of results that a kill cannot lose: one JSON line per result, appended as it comes.

The first line holds the settings of the run. Continuing a log under other settings is refused: its results
would come from two different measurements under one name.
"""

import fcntl
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

RowT = TypeVar("RowT")


class AppendLogError(ValueError):
    """The log cannot be continued; the message names the file and what differs."""


@dataclass(frozen=True, slots=True)
class LogContent:
    """The whole lines of a log: its settings, its results, and the bytes they take."""

    settings: Mapping[str, Any]
    rows: Sequence[dict[str, Any]]
    num_bytes: int


def read_log(path: Path) -> LogContent:
    """What a log holds; a last line that a kill cut off is passed over, and a log of none is empty.

    Raises AppendLogError naming a file with a damaged line, OSError where there is no file.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        lines = [json.loads(line) for line in whole.split(b"\n") if line]
        settings = lines[0]["settings"] if lines else {}
        if not all(isinstance(row, dict) for row in lines):
            raise ValueError("expected an object on each line")
    except (ValueError, KeyError, TypeError) as error:
        raise AppendLogError(
            f"{path} is damaged or no log: {error!r}; remove it or its broken line"
        ) from error
    return LogContent(settings, lines[1:], len(whole))


class AppendLog(Generic[RowT]):
    """Opening it reads what an earlier run left; use it as a context manager.

    `parse` makes a row of what `to_json` made of it, and raises KeyError, TypeError or ValueError on anything else.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        parse: Callable[[dict[str, Any]], RowT],
        to_json: Callable[[RowT], Mapping[str, Any]],
    ) -> None:
        self.path = path
        self.rows: list[RowT] = []
        self._settings = json.loads(json.dumps(dict(settings)))  # as it reads back: tuples are lists
        self._parse = parse
        self._to_json = to_json

    def __enter__(self) -> Self:
        """Raises AppendLogError when the file belongs to another run, OSError when it cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            self._lock()
            end = self._read()
        except BaseException:
            self._file.close()
            raise
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

    def append(self, row: RowT) -> None:
        self.rows.append(row)
        self._write(self._to_json(row))

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        """Until the file is closed, by whatever end of this process."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AppendLogError(
                f"{self.path} is being written by another process; wait for its end"
            ) from error

    def _read(self) -> int:
        """Load the whole lines; the offset behind the last of them, 0 when not even the first is whole."""
        content = read_log(self.path)
        try:
            self.rows = [self._parse(row) for row in content.rows]
        except (ValueError, KeyError, TypeError) as error:
            raise AppendLogError(f"{self.path} is not a log of this kind: {error!r}") from error
        if content.num_bytes:
            self._refuse_other_settings(content.settings)
        return content.num_bytes

    def _refuse_other_settings(self, found: Mapping[str, Any]) -> None:
        names = sorted(found.keys() | self._settings.keys())
        differing = [name for name in names if found.get(name) != self._settings.get(name)]
        if differing:
            details = ", ".join(
                f"{name} was {found.get(name)!r}, now {self._settings.get(name)!r}" for name in differing
            )
            raise AppendLogError(
                f"{self.path} was begun with other settings ({details}); choose another --out"
            )
