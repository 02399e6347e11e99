"""Small rows in the form of the public files, written where a task looks for them."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_jsonl(data: Path, name: str, rows: Sequence[Any]) -> None:
    _write(data / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(data: Path, name: str, content: Any) -> None:
    _write(data / name, json.dumps(content, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
