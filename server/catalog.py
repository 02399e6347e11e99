"""The specialists' manifests without their weights: enough to say who would answer.

For `polymath route`, which must not wait for the base model. A running server has the real registry.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from server.loading import specialist_folders
from server.settings import Settings
from specialists.manifest import ManifestError, SpecialistManifest, read_manifest


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A specialist on disk. It has no generation, as nothing was loaded."""

    manifest: SpecialistManifest
    generation: int = 0
    is_resident: bool = True  # nothing will be computed with it

    @property
    def name(self) -> str:
        return self.manifest.name


class ManifestCatalog:
    """Stands where the registry stands in a server; there is nothing to count in or out."""

    def __init__(self, entries: Mapping[str, CatalogEntry]) -> None:
        self._entries = entries

    @classmethod
    def read(cls, settings: Settings) -> "ManifestCatalog":
        """All readable manifests; a folder with a damaged one serves nobody, here as in the server."""
        entries: dict[str, CatalogEntry] = {}
        for folder in specialist_folders(settings, {}):
            try:
                entry = CatalogEntry(read_manifest(folder))
            except ManifestError:
                continue
            entries.setdefault(entry.name, entry)
        return cls(entries)

    def routable_names(self) -> list[str]:
        return sorted(self._entries)

    def get(self, name: str, /) -> CatalogEntry:
        return self._entries[name]

    def acquire(self, name: str, /) -> CatalogEntry:
        return self._entries[name]

    def ensure_resident(self, entry: CatalogEntry, /) -> None:
        """Nothing is loaded."""

    def release(self, entry: CatalogEntry, /) -> None:
        """Nothing is held."""
