"""The three ways weights come into the cache: a pinned artifact, a local GGUF file, a model of the hub.

Each knows where its import lives (`locate`) and how to make it (`bring`). The caller holds the import lock.
"""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from specialists.sources.artifacts import Artifact
from specialists.sources.cache import find, folder_of, place, unfinished_folder
from specialists.sources.conversion import convert_gguf
from specialists.sources.disk import sha256_of
from specialists.sources.errors import BaseModelError, MirrorError, SourceError
from specialists.sources.fetch import fetch
from specialists.sources.hub import download_snapshot
from specialists.sources.local import check_model_folder
from specialists.sources.progress import Progress


class Importable(Protocol):
    """A source whose import lives in the cache."""

    def locate(self, home: Path) -> Path | None:
        """The imported folder, not yet checked; None when there is none."""

    def bring(self, home: Path, progress: Progress) -> Path:
        """Fetch and import, replacing what is there. Raises SourceError or BaseModelError."""


@dataclass(frozen=True, slots=True)
class PinnedSource:
    """Weights that we know by content: a GGUF file, or the files of a model as they are."""

    kind: str
    artifact: Artifact
    model_types: tuple[str, ...]

    def locate(self, home: Path) -> Path | None:
        return _if_folder(folder_of(home, self.kind, self.artifact.sha256))

    def bring(self, home: Path, progress: Progress) -> Path:
        target = folder_of(home, self.kind, self.artifact.sha256)
        fetched = fetch(self.artifact, home / "downloads", progress)
        with unfinished_folder(target) as folder:
            if fetched.suffix == ".gguf":
                convert_gguf(fetched, folder, progress)
            else:
                for file in self.artifact.files:
                    (fetched.parent / file.path).replace(folder / file.path)
                check_model_folder(folder, self.model_types)
            place(folder, target, self.artifact.name, self.artifact.sha256, {})
        remove_download(fetched.parent)
        return target


@dataclass(frozen=True, slots=True)
class GgufSource:
    """A local GGUF file; its sha256 is its identity, and its state spares hashing it at each start."""

    path: Path
    kind: str

    def locate(self, home: Path) -> Path | None:
        known = find(home, self.kind, str(self.path), self._state())
        return known or _if_folder(folder_of(home, self.kind, sha256_of(self.path)))

    def bring(self, home: Path, progress: Progress) -> Path:
        state = self._state()
        sha256 = sha256_of(self.path)
        target = folder_of(home, self.kind, sha256)
        with unfinished_folder(target) as folder:
            convert_gguf(self.path, folder, progress)
            return place(folder, target, str(self.path), sha256, state)

    def _state(self) -> Mapping[str, Any]:
        status = self.path.stat()
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


@dataclass(frozen=True, slots=True)
class HubSource:
    """A model of the Hugging Face hub that nobody has pinned; its weight files' hashes make its identity."""

    repo: str
    kind: str
    model_types: tuple[str, ...]
    endpoint: str | None = None

    def locate(self, home: Path) -> Path | None:
        return find(home, self.kind, self.repo)

    def bring(self, home: Path, progress: Progress) -> Path:
        download = home / "downloads" / self.repo.replace("/", "--")
        download.mkdir(parents=True, exist_ok=True)
        try:
            download_snapshot(self.repo, download, progress, self.endpoint)
        except MirrorError as error:
            for empty in (download, download.parent):
                remove_if_empty(empty)
            raise SourceError(f"cannot fetch {self.repo} from the Hugging Face hub: {error}") from error
        try:
            check_model_folder(download, self.model_types)
        except BaseModelError:
            remove_download(download)
            raise
        sha256 = _identity(download)
        target = folder_of(home, self.kind, sha256)
        with unfinished_folder(target) as folder:
            for path in download.iterdir():
                path.replace(folder / path.name)
            place(folder, target, self.repo, sha256, {})
        remove_download(download)
        return target


def _identity(folder: Path) -> str:
    """The sha256 of the weights: of the file itself, or of the shards' hashes in order."""
    hashes = [sha256_of(path) for path in sorted(folder.glob("*.safetensors"))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def remove_download(folder: Path) -> None:
    """The import is done; the download has no further use."""
    shutil.rmtree(folder, ignore_errors=True)
    remove_if_empty(folder.parent)


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _if_folder(path: Path) -> Path | None:
    return path if path.is_dir() else None
