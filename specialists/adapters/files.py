"""An adapter's folder, opened so that nothing outside it can be read and nothing but plain files is touched. No torch here.

Only the files an adapter consists of are ever opened. Texts that training tools leave beside them may lie there, unread; any
other file is refused by its name, unopened: what it was meant to add would silently be missing.
"""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from specialists.adapters.errors import AdapterError, shown
from specialists.manifest import MANIFEST_FILE

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_READ = frozenset({CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE})
_UNREAD_SUFFIXES = (".md", ".txt", ".json", ".toml", ".jinja")  # cards, recipes, scores, tokenizers
_UNREAD_NAMES = frozenset({"LICENSE", "NOTICE", ".gitattributes"})
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
# Without waiting for a writer (a pipe), without following a link that was put there since we looked.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class AdapterFolder:
    """One open folder; a context manager. Raises AdapterError for what must not be in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise AdapterError(f"{self.path} is not a folder", code="folder_missing") from None
        except (OSError, ValueError) as error:
            raise AdapterError(f"{self.path} cannot be opened: {error}", code="unreadable") from error
        try:
            self._check_entries()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def open(self, name: str, max_bytes: int) -> BinaryIO:
        """The file `name`. Raises AdapterError when it is missing, no plain file, or larger than `max_bytes`."""
        path = self.path / name
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=self._descriptor)
        except FileNotFoundError:
            raise AdapterError(f"{path} is missing", code="file_missing") from None
        except OSError as error:
            raise AdapterError(f"{path} cannot be opened: {error.strerror}", code="unreadable") from error
        file = os.fdopen(descriptor, "rb")
        found = os.fstat(descriptor)
        try:
            if not stat.S_ISREG(found.st_mode):
                raise AdapterError(
                    f"{path} is {_kind(found.st_mode)}, expected a file", code="not_regular_file"
                )
            if found.st_size > max_bytes:
                raise AdapterError(
                    f"{path} has {found.st_size} bytes, at most {max_bytes} are allowed", code="too_large"
                )
        except BaseException:
            file.close()
            raise
        return file

    def read(self, name: str, max_bytes: int) -> bytes:
        """All of a small file. Raises as `open` does."""
        with self.open(name, max_bytes) as file:
            try:
                return file.read(max_bytes)
            except OSError as error:
                raise AdapterError(
                    f"{self.path / name} cannot be read: {error.strerror}", code="unreadable"
                ) from error

    def _check_entries(self) -> None:
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                check_file_name(self.path, entry.name)
                mode = entry.stat(follow_symlinks=False).st_mode
                if not stat.S_ISREG(mode):
                    raise AdapterError(
                        f"{self.path}: {shown(entry.name)} is {_kind(mode)}, expected a file",
                        code="not_regular_file",
                    )


def check_file_name(folder: Path | str, name: str) -> None:
    """Raises AdapterError for a file that must not lie in an adapter's folder; `folder` is what the message calls it."""
    if name in _READ or name in _UNREAD_NAMES or name.lower().endswith(_UNREAD_SUFFIXES):
        return
    if name.lower().endswith(_PICKLES):
        raise AdapterError(
            f"{folder}: {shown(name)} may be a pickle, which is never opened; expected {WEIGHTS_FILE} alone",
            code="not_safetensors",
        )
    raise AdapterError(
        f"{folder}: {shown(name)} is no part of an adapter; expected {CONFIG_FILE}, {WEIGHTS_FILE}, {MANIFEST_FILE} "
        f"and texts ({', '.join(_UNREAD_SUFFIXES)})",
        code="file_not_allowed",
    )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")
