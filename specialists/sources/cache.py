"""The imported models under POLYMATH_HOME: how a folder gets there whole or not at all, and is known to be.

A folder is written beside its place, gets its record (polymath.json) last, and is renamed into place. Readers
compare the sizes in the record with the disk, which is instant; the hashes are for who wants to be sure.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from specialists.sources.disk import sha256_of, sync_file
from specialists.sources.errors import DamagedCacheError
from specialists.sources.progress import Progress

RECORD_FILE = "polymath.json"
RECORD_FORMAT = 1
REPAIR = "`polymath pull --force` imports it anew"
_UNFINISHED = ".importing"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What one file of an imported folder was when it was written."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The content of polymath.json. `source` is its name or path, `origin` the state of a local file."""

    source: str
    source_sha256: str
    files: Mapping[str, FileRecord]
    origin: Mapping[str, Any] = field(default_factory=dict)
    format: int = RECORD_FORMAT


def folder_of(home: Path, kind: str, source_sha256: str) -> Path:
    """Where the import of this source lives."""
    return home / kind / source_sha256[:16]


def read_record(folder: Path) -> Record:
    """The record of an imported folder. Raises DamagedCacheError naming the file when it cannot be used."""
    path = folder / RECORD_FILE
    try:
        content = json.loads(path.read_bytes())
        files = {name: FileRecord(**entry) for name, entry in content.pop("files").items()}
        record = Record(files=files, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedCacheError(f"damaged cache: {path} is missing or not readable; {REPAIR}") from error
    if record.format != RECORD_FORMAT:
        raise DamagedCacheError(f"{path} is of format {record.format}, expected {RECORD_FORMAT}; {REPAIR}")
    return record


def check_folder(folder: Path) -> Record:
    """The record, after comparing every file's size with it. Raises DamagedCacheError naming the file."""
    record = read_record(folder)
    for name, entry in record.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size:
            found = "is missing" if size is None else f"has {size} bytes, expected {entry.size}"
            raise DamagedCacheError(f"damaged cache: {path} {found}; {REPAIR}")
    return record


def find(home: Path, kind: str, source: str, origin: Mapping[str, Any] | None = None) -> Path | None:
    """The folder imported from a source without a pinned hash: a hub id, or a local file in this state."""
    for path in sorted((home / kind).glob(f"*/{RECORD_FILE}")):
        try:
            record = read_record(path.parent)
        except DamagedCacheError:
            continue  # reported when it is asked for by its own name
        if record.source == source and (origin is None or record.origin == origin):
            return path.parent
    return None


@contextmanager
def unfinished_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to write an import into; it is gone when this ends, placed or not."""
    folder = target.with_name(target.name + _UNFINISHED)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed; the lock says it is not at work
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(folder: Path, target: Path, source: str, source_sha256: str, origin: Mapping[str, Any]) -> Path:
    """Write the record of `folder`, get everything onto the disk, and make it `target` in one step."""
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    for path in files.values():
        path.chmod(0o644)  # safetensors writes 0600, which a server under another user could not read
        sync_file(path)
    entries = {name: FileRecord(path.stat().st_size, sha256_of(path)) for name, path in files.items()}
    record = Record(source=source, source_sha256=source_sha256, files=entries, origin=origin)
    (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=2), encoding="utf-8")
    sync_file(folder / RECORD_FILE)
    sync_file(folder)
    if target.exists():
        shutil.rmtree(target)
    folder.replace(target)
    sync_file(target.parent)
    return target


@contextmanager
def import_lock(home: Path, progress: Progress) -> Iterator[None]:
    """One import at a time in this cache; a second process waits and then finds the work done."""
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "import.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.notice(f"another process is importing into {home}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
