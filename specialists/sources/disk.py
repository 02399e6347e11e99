"""Files on the disk: their hashes, the space they need, and what a failing disk is called."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specialists.sources.errors import SourceError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)
# Beside the weights themselves: tokenizer, JSON files, what the file system needs for itself.
_MARGIN_BYTES = 32 << 20


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_file_with(path: Path, size: int, sha256: str) -> bool:
    """Whether the file is there with exactly this content."""
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def check_free_space(folder: Path, needed_bytes: int) -> None:
    """Raise SourceError when the disk of `folder` (which exists) has not enough space left."""
    needed_bytes += _MARGIN_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise SourceError(
            f"not enough disk space under {folder}: {megabytes(needed_bytes)} needed, {megabytes(free)} free"
        )


def is_disk_error(error: BaseException) -> bool:
    """Whether the disk is at fault (full, or not writable) and not a network."""
    return isinstance(error, OSError) and error.errno in (*_FULL, *_NOT_WRITABLE)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into one sentence about `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(folder) from error
        if error.errno in _NOT_WRITABLE:
            raise SourceError(f"cannot write to {error.filename or folder}: {error.strerror}") from error
        raise


def disk_full(folder: Path) -> SourceError:
    """The error that says so."""
    return SourceError(
        f"the disk is full: nothing more can be written under {folder}; free some space and retry"
    )


def sync_file(path: Path) -> None:
    """Have the file (or folder entry) on the disk before anything that relies on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:,.0f} MB"
