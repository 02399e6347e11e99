"""The log of sampled solutions; what an attempt is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specialists.evaluation.append_log import AppendLog


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


class AttemptLog(AppendLog[Attempt]):
    """Attempts under the settings they were sampled with."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(path, settings, lambda row: Attempt(**row), asdict)

    @property
    def attempts(self) -> list[Attempt]:
        return self.rows
