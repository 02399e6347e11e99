"""Uploaded files, by what they hold: `adapters/sha256/<digest>/` below the state folder.

A folder appears there whole or not at all: written beside it, synced, renamed. It is never changed afterwards. What no
record names is rubbish, swept when no other server can still be about to name it.
"""

import fcntl
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from server.store.errors import StoreError

GRACE_SECONDS = 3600.0  # longer than any upload, and than other servers take to read what changed
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ContentStore:
    """The folders of this state folder. Several servers may share it; each holds a lock that says it is alive."""

    def __init__(self, root: Path, alive: BinaryIO) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._stored = root / "sha256"
        self._alive = alive

    @classmethod
    def open(cls, state: Path) -> Self:
        """Raises StoreError when the folder cannot be written."""
        root = state / "adapters"
        try:
            for folder in (root / "incoming", root / "sha256"):
                folder.mkdir(parents=True, exist_ok=True)
            alive = (root / "alive.lock").open("ab")
        except OSError as error:
            raise StoreError(f"cannot write into the state folder {state}: {error.strerror}") from error
        return cls(root, alive)

    def close(self) -> None:
        self._alive.close()

    def new_folder(self) -> Path:
        """An empty folder to write files into, for `keep` or `discard`."""
        folder = self._incoming / uuid.uuid4().hex
        folder.mkdir()
        return folder

    def discard(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def keep(self, folder: Path) -> str:
        """Give a folder made by `new_folder` its lasting place; returns its digest. It is on the disk then."""
        digest = _sync_and_digest(folder)
        place = self._stored / digest
        try:
            folder.rename(place)
        except OSError:
            if not place.is_dir():
                raise
            self.discard(folder)  # the same files are there already
            os.utime(place)
        _sync(self._stored)
        return digest

    def folder_of(self, digest: str) -> Path:
        """Where the files with this digest lie, or would lie."""
        assert _DIGEST.fullmatch(digest), f"{digest!r} is no digest"
        return self._stored / digest

    def sweep(self, named: Collection[str]) -> list[str]:
        """Delete what no record names; returns what was deleted. Call it at the start, before anything is written.

        Alone on the folder it deletes everything unnamed; beside other servers only what has lain there for long, as
        they may be about to name the rest.
        """
        with self._alone() as is_alone:
            latest = time.time() - (0.0 if is_alone else GRACE_SECONDS)
            deleted = []
            for parent in (self._incoming, self._stored):
                for folder in sorted(parent.iterdir()):
                    if folder.name not in named and _is_older(folder, latest):
                        self.discard(folder)
                        deleted.append(folder.name)
            return deleted

    def drop(self, digest: str) -> None:
        """Delete files that have lost their last name; beside other servers, leave them to a later sweep."""
        place = self.folder_of(digest)
        with self._alone() as is_alone:
            if is_alone:
                self.discard(place)
            elif place.is_dir():
                os.utime(place)  # its grace begins

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other server uses the folder; if so, none begins to before the block is left."""
        try:
            fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        try:
            yield is_alone
        finally:
            fcntl.flock(self._alive, fcntl.LOCK_SH)  # from now on another server's sweep sees this one


def _is_older(folder: Path, latest: float) -> bool:
    try:
        return folder.stat().st_mtime <= latest
    except FileNotFoundError:  # another server was faster
        return False


def _sync_and_digest(folder: Path) -> str:
    """Bring every file to the disk; the digest is over the files' names and contents, in the order of the names."""
    listing = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            listing.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    _sync(folder)
    return listing.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
