"""From what the user names to a folder that can be loaded: the base model and the delegator's encoder.

A source is "default", "teacher" (base only), a local folder with safetensors, a local .gguf file (base only),
or a Hugging Face id. `import_*` makes it ready, once; `resolve_*` only looks, in milliseconds, and is what a
server does at start. Local folders are used where they are; everything else goes into the cache under `home`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from specialists.sources.artifacts import DEFAULT_BASE, DEFAULT_ENCODER, TEACHER, Artifact
from specialists.sources.cache import check_folder, import_lock, read_record
from specialists.sources.disk import disk_errors
from specialists.sources.errors import BaseModelError, DamagedCacheError, SourceError
from specialists.sources.importing import GgufSource, HubSource, Importable, PinnedSource
from specialists.sources.local import BASE_MODEL_TYPES, ENCODER_MODEL_TYPES, check_model_folder
from specialists.sources.progress import SILENT, Progress

__all__ = [
    "BaseModelError",
    "SourceError",
    "base_name",
    "base_sha256",
    "import_base",
    "import_encoder",
    "resolve_base",
    "resolve_encoder",
]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What a base and an encoder differ in."""

    noun: str
    folder: str  # under home
    artifacts: Mapping[str, Artifact]
    model_types: tuple[str, ...]
    accepts_gguf: bool


_BASE = _Kind(
    noun="base model",
    folder="base",
    artifacts={"default": DEFAULT_BASE, "teacher": TEACHER},
    model_types=BASE_MODEL_TYPES,
    accepts_gguf=True,
)
_ENCODER = _Kind(
    noun="encoder",
    folder="encoder",
    artifacts={"default": DEFAULT_ENCODER},
    model_types=ENCODER_MODEL_TYPES,
    accepts_gguf=False,
)


def import_base(source: str, home: Path, progress: Progress = SILENT, *, force: bool = False) -> Path:
    """Make a base model ready and return its folder; at once when it already is. `force` does it all anew.

    Raises SourceError when it cannot be fetched or written, BaseModelError when it is not one we can serve.
    """
    return _import(_BASE, source, home, progress, force=force)


def import_encoder(source: str, home: Path, progress: Progress = SILENT, *, force: bool = False) -> Path:
    """The same for the delegator's encoder."""
    return _import(_ENCODER, source, home, progress, force=force)


def resolve_base(source: str, home: Path) -> Path:
    """The folder of a base model that is ready.

    Raises BaseModelError saying `polymath pull` when it is not imported, naming the file when it is damaged.
    """
    return _resolve(_BASE, source, home)


def resolve_encoder(source: str, home: Path) -> Path:
    """The same for the delegator's encoder."""
    return _resolve(_ENCODER, source, home)


def base_sha256(folder: Path) -> str | None:
    """The identity of the weights a base was imported from; None for a folder that was not imported."""
    try:
        return read_record(folder).source_sha256
    except DamagedCacheError:
        return None


def base_name(folder: Path) -> str | None:
    """What the weights are called that a base was imported from; None for a folder that was not imported."""
    try:
        return read_record(folder).source
    except DamagedCacheError:
        return None


def _resolve(kind: _Kind, source: str, home: Path) -> Path:
    found = _find_source(kind, source)
    folder = found if isinstance(found, Path) else _ready(found, home)
    if folder is None:
        raise BaseModelError(f"the {kind.noun} {source!r} is not in {home}; `polymath pull` fetches it")
    return folder


def _import(kind: _Kind, source: str, home: Path, progress: Progress, *, force: bool) -> Path:
    found = _find_source(kind, source)
    if isinstance(found, Path):
        return found
    if not force and (folder := _ready_or_notice(found, home, progress)):
        return folder
    with disk_errors(home), import_lock(home, progress):
        # Another process may have imported it while this one waited.
        if not force and (folder := _ready_or_notice(found, home, None)):
            return folder
        return found.bring(home, progress)


def _ready(found: Importable, home: Path) -> Path | None:
    folder = found.locate(home)
    if folder is not None:
        check_folder(folder)
    return folder


def _ready_or_notice(found: Importable, home: Path, progress: Progress | None) -> Path | None:
    try:
        return _ready(found, home)
    except DamagedCacheError as error:
        if progress is not None:
            progress.notice(f"{error} (doing so now)")
        return None


def _find_source(kind: _Kind, source: str) -> Path | Importable:
    """A local folder, looked at, or something to import. Raises BaseModelError when it is neither."""
    if source in kind.artifacts:
        return PinnedSource(kind.folder, kind.artifacts[source], kind.model_types)
    path = Path(source).expanduser()
    if path.is_dir():
        check_model_folder(path, kind.model_types)
        return path
    if path.suffix == ".gguf" and kind.accepts_gguf:
        if not path.is_file():
            raise BaseModelError(f"{path}: no such file")
        return GgufSource(path.resolve(), kind.folder)
    if _HUB_ID.fullmatch(source) and path.suffix != ".gguf":
        return HubSource(source, kind.folder, kind.model_types)
    names = ", ".join(f'"{name}"' for name in kind.artifacts)
    files = "a .gguf file, " if kind.accepts_gguf else ""
    raise BaseModelError(
        f"{kind.noun} {source!r} is nothing that exists: expected {names}, a model folder, {files}"
        "or a Hugging Face id (owner/name)"
    )
