"""Which files a folder may hold, and that nothing else is opened or waited for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from specialists.adapters.errors import AdapterError, ErrorCode
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE, AdapterFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text("{}")
    (folder / WEIGHTS_FILE).write_bytes(b"12345678")
    return folder


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_refused(folder: Path, code: ErrorCode, message: str) -> None:
    before = num_open_files()
    with pytest.raises(AdapterError, match=message) as refusal, AdapterFolder(folder):
        pass
    assert refusal.value.code == code
    assert num_open_files() == before


def test_texts_may_lie_beside(folder: Path):
    for name in ("README.md", "LICENSE", "manifest.json", "recipe.toml", "merges.txt", ".gitattributes"):
        (folder / name).touch()
    with AdapterFolder(folder) as files:
        assert files.read(CONFIG_FILE, 10) == b"{}"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("adapter_model.bin", "not_safetensors"),
        ("adapter_model.pt", "not_safetensors"),
        ("ADAPTER.PTH", "not_safetensors"),
        ("optimizer.pkl", "not_safetensors"),
        ("training_args.bin", "not_safetensors"),
        ("model.safetensors", "file_not_allowed"),
        ("adapter_model-00001-of-00002.safetensors", "file_not_allowed"),
        ("modeling.py", "file_not_allowed"),
        (".hidden", "file_not_allowed"),
        ("new\nline", "file_not_allowed"),
    ],
)
def test_other_files_are_refused_unopened(folder: Path, name: str, code: ErrorCode):
    (folder / name).write_bytes(b"\x80\x04.")
    (folder / name).chmod(0)
    assert_refused(folder, code, "adapter")


def _link_outside(folder: Path) -> None:
    (folder.parent / "secret.json").write_text("{}")
    (folder / CONFIG_FILE).unlink()
    (folder / CONFIG_FILE).symlink_to(folder.parent / "secret.json")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.json"))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (_link_outside, "a symbolic link"),
        (lambda folder: (folder / "dangling.md").symlink_to("nowhere"), "a symbolic link"),
        (lambda folder: (folder / "inside.md").symlink_to(CONFIG_FILE), "a symbolic link"),
        (lambda folder: os.mkfifo(folder / "pipe.json"), "a pipe"),
        (lambda folder: (folder / "more.json").mkdir(), "a folder"),
        (_socket, "a socket"),
    ],
    ids=["link-outside", "dangling", "link-inside", "pipe", "folder", "socket"],
)
def test_only_plain_files(folder: Path, make: Callable[[Path], object], kind: str):
    make(folder)
    assert_refused(folder, "not_regular_file", f"is {kind}, expected a file")


def test_a_weights_file_that_is_a_pipe_is_refused_without_waiting_for_a_writer(folder: Path):
    (folder / WEIGHTS_FILE).unlink()
    os.mkfifo(folder / WEIGHTS_FILE)
    assert_refused(folder, "not_regular_file", "a pipe")


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.symlink_to("/etc/passwd")])
def test_what_changes_after_the_look_is_refused_at_opening(folder: Path, make: Callable[[Path], object]):
    with AdapterFolder(folder) as files:
        (folder / WEIGHTS_FILE).unlink()
        make(folder / WEIGHTS_FILE)
        with pytest.raises(AdapterError, match=WEIGHTS_FILE) as refusal:
            files.open(WEIGHTS_FILE, 100)
    assert refusal.value.code in ("not_regular_file", "unreadable")


def test_a_folder_that_is_swapped_stays_the_one_that_was_opened(folder: Path):
    with AdapterFolder(folder) as files:
        folder.rename(folder.with_name("moved"))
        folder.mkdir()
        (folder / CONFIG_FILE).write_text('{"other": 1}')
        assert files.read(CONFIG_FILE, 100) == b"{}"


def test_sizes_are_checked_before_reading(folder: Path):
    with AdapterFolder(folder) as files:
        with pytest.raises(AdapterError, match="has 8 bytes, at most 7 are allowed") as refusal:
            files.open(WEIGHTS_FILE, 7)
        assert refusal.value.code == "too_large"
        files.open(WEIGHTS_FILE, 8).close()


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file(folder: Path, name: str):
    (folder / name).unlink()
    with AdapterFolder(folder) as files, pytest.raises(AdapterError, match=f"{name} is missing") as refusal:
        files.read(name, 100)
    assert refusal.value.code == "file_missing"


@pytest.mark.parametrize("name", ["nowhere", "adapter/adapter_config.json", "x" * 300, "nul\0"])
def test_no_folder(folder: Path, name: str):
    with pytest.raises(AdapterError) as refusal, AdapterFolder(folder.parent / name):
        pass
    assert refusal.value.code in ("folder_missing", "unreadable")
