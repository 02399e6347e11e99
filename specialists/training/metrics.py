"""What a run measured, one JSON object per line, appended as it happens."""

import json
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends to `<folder>/metrics.jsonl`. A continued run first drops the lines beyond its checkpoint."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS_FILE
        kept = [line for line in _whole_lines(self._path) if json.loads(line)["step"] <= resume_step]
        self._path.write_text("".join(kept if resume_step else []), encoding="utf-8")

    def write(self, step: int, **values: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [
        line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
    ]
