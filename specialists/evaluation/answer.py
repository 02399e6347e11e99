"""One graded answer, and the log they are kept in while a measurement runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specialists.evaluation.append_log import AppendLog
from specialists.evaluation.task import Grade, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswer:
    """One item's answer and its grade.

    `prompt_sha256` (its beginning) tells whether it answers today's prompt; `seconds` is how long the measurement
    had taken when it came; `is_reused` answers were given in an earlier measurement.
    """

    id: str
    text: str
    num_tokens: int
    is_cut: bool
    grade: Grade
    category: str = ""
    specialist: str | None = None
    prompt_sha256: str = ""
    seconds: float = 0.0
    is_reused: bool = False


class AnswerLog(AppendLog[GradedAnswer]):
    """Answers under the settings they were given with."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(path, settings, _parse, asdict)

    @property
    def seconds(self) -> float:
        """What the runs before this one took."""
        return max((answer.seconds for answer in self.rows), default=0.0)


def prompt_digest(prompt: Sequence[Message]) -> str:
    return hashlib.sha256(json.dumps(list(map(dict, prompt))).encode()).hexdigest()[:16]


def _parse(row: dict[str, Any]) -> GradedAnswer:
    return GradedAnswer(**{**row, "grade": Grade(**row["grade"])})
