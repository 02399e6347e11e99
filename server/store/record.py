"""What is remembered of one specialist: where it comes from and what the operator said about it. Plain data."""

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Where a specialist's files lie."""

    CATALOG = "catalog"  # in a folder the settings name; read anew at each start
    PATH = "path"  # in a folder below one of the roots
    UPLOAD = "upload"  # in the content store


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialistRecord:
    """One row. What is None was not said: the folder's manifest says it.

    `location` is an absolute folder (PATH), a content digest (UPLOAD) or None (CATALOG). `revision` is the database's
    revision at which the record was written last; 0 is a record not yet written.
    """

    name: str
    source: Source
    location: str | None = None
    sha256: str | None = None  # of what was loaded; another content at the same place is not taken for it
    intent: str | None = None
    description: str | None = None
    examples: tuple[str, ...] | None = None
    pinned: bool = False
    routable: bool = True
    allow_base_mismatch: bool = False
    unloaded: bool = False  # of CATALOG: the settings offer it, the operator does not want it
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All records as they were at one revision, by name, and the highest generation any server has used."""

    revision: int
    last_generation: int
    records: dict[str, SpecialistRecord]
