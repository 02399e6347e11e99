"""Reads JSON, JSON lines and CSV, gzipped or not, and names the file when it cannot."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class SourceFileError(Exception):
    """A data file is missing or malformed; the message names it."""


def read_text(path: Path) -> str:
    """The whole file as UTF-8, decompressed when its name ends in `.gz`.

    Raises SourceFileError when the file is missing, damaged or not UTF-8.
    """
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SourceFileError(f"cannot read {path}: {error}") from error


def read_json(path: Path) -> Any:
    """The parsed file. Raises SourceFileError when it is not JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise SourceFileError(f"{path} is not JSON: {error}") from error


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """One object per non-empty line. Raises SourceFileError naming the line."""
    # Not str.splitlines: it also splits at U+2028, which JSON strings may hold.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceFileError(f"{path} line {number} is not JSON: {error}") from error


def read_csv(path: Path) -> Iterator[list[str]]:
    """The rows of a comma-separated file, header included."""
    yield from csv.reader(io.StringIO(read_text(path), newline=""))


_NUMBERED = re.compile(r"\b(?:Answer|Option|Solution|Ending)\d+: ")


def split_numbered_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Takes "stem Answer1: x Answer2: y Answer format: ..." apart into the stem and the options."""
    body = text.split("Answer format:")[0]
    stem, *options = _NUMBERED.split(body)
    return stem.strip(), tuple(option.strip() for option in options)


def strip_label(option: str) -> str:
    """Drops a leading "A)" or "b ." from an answer option."""
    return re.sub(r"^\s*\(?[A-Ea-e]\s*[).:]\s*", "", option).strip()
