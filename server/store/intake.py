"""Which uploaded files are taken, and how an archive is unpacked without trusting anything it says of itself.

Every name is checked before its first byte is written, every byte is counted as it is written, and anything odd refuses
the upload whole. Files are made by this code from plain names: no archive can make a link, a path or a mode.
"""

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from specialists.adapters.files import check_file_name

LONGEST_NAME = 128  # of one file, in characters
MAX_MEMBERS = 64  # files and folders of one archive
_CHUNK = 256 * 1024
_LARGEST_READ = 1024 * 1024  # of an archive's own tables; contents are read in chunks


class IntakeError(ValueError):
    """An upload that is not taken; `code` is stable, the message one sentence."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Budget:
    """The bytes an upload may still have. Raises IntakeError as soon as they are used up."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit

    def spend(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left < 0:
            raise IntakeError(
                f"the upload holds more than the {self._limit} bytes this server takes", "upload_too_large"
            )


def check_name(name: str, seen: set[str]) -> None:
    """Raises AdapterError for a file that is no part of an adapter, IntakeError for one that came already; notes it in
    `seen`.
    """
    if not name.isprintable() or set(name) & set("/\\") or not 0 < len(name) <= LONGEST_NAME:
        raise IntakeError(f"{name[:100]!r} is no plain file name", "file_not_allowed")
    check_file_name("the upload", name)
    if name in seen:
        raise IntakeError(f"the file {name!r} comes twice", "duplicate_file")
    seen.add(name)


def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Unpack a .zip, .tar.gz or .tar into the empty `folder`. Its files may lie in one folder of the archive.

    Raises IntakeError for anything that is not a plain file with an expected name, for more than MAX_MEMBERS members, and
    for more than `limit` bytes; what was written until then is the caller's to delete.
    """
    with _readable(archive), archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic == b"PK\x03\x04":
            _unpack_zip(file, folder, limit)
        elif magic[:2] == b"\x1f\x8b":
            _unpack_tar(_inflated(file, archive.with_suffix(".tar"), limit), folder, limit)
        else:
            _unpack_tar(file, folder, limit)


def _unpack_zip(file: BinaryIO, folder: Path, limit: int) -> None:
    names, budget = _Names(), Budget(limit)
    with zipfile.ZipFile(cast(BinaryIO, _Guarded(file))) as archive:
        members = archive.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.flag_bits & 0x1:
                raise IntakeError(f"{member.filename[:100]!r} is encrypted", "archive_invalid")
            is_folder = member.is_dir()
            names.add(member.filename, is_folder, is_plain=is_folder or kind in (0, stat.S_IFREG))
        for member in members:
            if not member.is_dir():
                with archive.open(member) as source:
                    _write(folder / names.plain(member.filename), source.read, budget)


def _unpack_tar(file: BinaryIO, folder: Path, limit: int) -> None:
    names, budget = _Names(), Budget(limit)
    guarded = cast(BinaryIO, _Guarded(file))
    with file, tarfile.open(fileobj=guarded, mode="r:", tarinfo=_Member) as archive:
        for member in archive:
            is_plain = member.isdir() or (member.isreg() and not member.issparse())
            names.add(member.name, member.isdir(), is_plain)
            if member.isdir():
                continue
            source = archive.extractfile(member)
            assert source is not None, "a regular member has content"
            _write(folder / names.plain(member.name), source.read, budget)
    if not names.num_members:
        raise IntakeError("the archive is empty", "archive_invalid")


class _Member(tarfile.TarInfo):
    """Python 3.11 follows a negative size backwards, for ever (CVE-2025-8194)."""

    def _block(self, count: int) -> int:
        if count < 0:
            raise tarfile.HeaderError("a member has a negative size")
        return super()._block(count)  # type: ignore[misc,no-any-return]


class _Names:
    """The members of one archive: all in one place, no two alike, none too many."""

    def __init__(self) -> None:
        self.num_members = 0
        self._seen: set[str] = set()
        self._parent: str | None = None

    def add(self, name: str, is_folder: bool, is_plain: bool) -> None:
        """Raises IntakeError unless this member may be written."""
        self.num_members += 1
        if self.num_members > MAX_MEMBERS:
            raise IntakeError(f"the archive has more than {MAX_MEMBERS} members", "archive_invalid")
        shown = repr(name[:100])
        if not is_plain:
            raise IntakeError(f"{shown} is no plain file; links and devices are not taken", "archive_invalid")
        parts = name.removeprefix("./").rstrip("/").split("/")
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or ":" in parts[0]:
            raise IntakeError(f"{shown} is no name inside the archive", "archive_invalid")
        if is_folder:
            if len(parts) > 1:
                raise IntakeError(f"{shown} lies too deep; expected files in one folder", "archive_invalid")
            return
        parent = "/".join(parts[:-1])
        if len(parts) > 2 or (self._parent is not None and parent != self._parent):
            raise IntakeError(f"{shown} lies elsewhere; expected all files in one folder", "archive_invalid")
        self._parent = parent
        check_name(parts[-1], self._seen)

    @staticmethod
    def plain(name: str) -> str:
        return name.rsplit("/", 1)[-1]


class _Guarded:
    """An archive whose tables cannot make their reader fill the memory: a read asks for a modest number of bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(_LARGEST_READ + 1 if size < 0 else min(size, _LARGEST_READ + 1))
        if len(data) > _LARGEST_READ:
            raise IntakeError("the archive's own tables are larger than any specialist's", "archive_invalid")
        return data


def _inflated(file: BinaryIO, place: Path, limit: int) -> BinaryIO:
    """The gzip's content in a file at `place`, which has no name any more."""
    # What a tar adds to its members is little, and bounded by their number.
    budget = Budget(limit + MAX_MEMBERS * 4 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE)
    target = place.open("x+b")
    place.unlink()
    try:
        with gzip.GzipFile(fileobj=file) as source:
            while chunk := source.read(_CHUNK):
                budget.spend(len(chunk))
                target.write(chunk)
        target.seek(0)
    except BaseException:
        target.close()
        raise
    return cast(BinaryIO, target)


def _write(path: Path, read: Callable[[int], bytes], budget: Budget) -> None:
    with path.open("xb") as target:
        while chunk := read(_CHUNK):
            budget.spend(len(chunk))
            target.write(chunk)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """What the standard library says of damaged archives, as one kind of error."""
    try:
        yield
    except IntakeError:
        raise
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        gzip.BadGzipFile,
        struct.error,
    ) as error:
        raise _damaged(error) from error
    except (ValueError, NotImplementedError, RuntimeError, KeyError, IndexError, OverflowError) as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> IntakeError:
    return IntakeError(
        f"the archive is no readable .zip, .tar.gz or .tar: {str(error)[:200] or type(error).__name__}",
        "archive_invalid",
    )
