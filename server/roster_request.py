"""What a load asks for, and the manifest that follows from it. Plain data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.store.record import Source, SpecialistRecord
from specialists.adapters.errors import AdapterError
from specialists.manifest import NAME_PATTERN, SpecialistManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """A specialist to load under `name`: from `path` (PATH), from the files written to `upload` (UPLOAD), or from the
    configured folders (CATALOG). What is None is as the folder's manifest says, or as it was before.
    """

    name: str
    source: Source
    path: str = ""
    upload: Path | None = None  # a folder of `ContentStore.new_folder`
    intent: str | None = None
    description: str | None = None
    examples: tuple[str, ...] | None = None
    pinned: bool | None = None
    replace: bool = False
    expected_generation: int | None = None
    allow_base_mismatch: bool = False


def manifest_of(folder: Path, record: SpecialistRecord) -> SpecialistManifest:
    """The folder's manifest under the record's name, with what the operator said about it. Raises AdapterError."""
    if not NAME_PATTERN.fullmatch(record.name):
        raise AdapterError(
            f"the name {record.name[:100]!r} is not usable, expected {NAME_PATTERN.pattern}",
            code="name_invalid",
        )
    said: dict[str, Any] = {
        "intent": record.intent,
        "description": record.description,
        "examples": record.examples,
    }
    # Here and not above: it imports torch, and a server answers /health before that has happened.
    from specialists.adapters.checkpoint import read_folder_manifest

    manifest = read_folder_manifest(folder, record.name)
    said = {key: value for key, value in said.items() if value is not None}
    return manifest.model_copy(update={"name": record.name, **said})
