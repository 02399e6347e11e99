"""Uploaded files appear whole under their digest, once, and go when nothing names them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.store.content import GRACE_SECONDS, ContentStore
from server.store.errors import StoreError

Opener = Callable[[], ContentStore]


@pytest.fixture
def open_content(tmp_path: Path) -> Iterator[Opener]:
    stores: list[ContentStore] = []

    def open_once() -> ContentStore:
        stores.append(ContentStore.open(tmp_path))
        return stores[-1]

    yield open_once
    for store in stores:
        store.close()


def write(content: ContentStore, **files: str) -> Path:
    folder = content.new_folder()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def age(folder: Path) -> None:
    old = folder.stat().st_mtime - 2 * GRACE_SECONDS
    os.utime(folder, (old, old))


def test_files_move_to_their_digest(open_content: Opener):
    content = open_content()
    incoming = write(content, a="1", b="2")
    digest = content.keep(incoming)
    assert not incoming.exists()
    place = content.folder_of(digest)
    assert {path.name: path.read_text() for path in place.iterdir()} == {"a": "1", "b": "2"}


def test_the_digest_is_over_names_and_contents(open_content: Opener):
    content = open_content()
    digests = [
        content.keep(write(content, **files)) for files in ({"a": "1"}, {"b": "1"}, {"a": "2"}, {"a": "1"})
    ]
    assert digests[0] == digests[3] and len(set(digests)) == 3
    assert list((content.root / "incoming").iterdir()) == []


def test_the_first_server_sweeps_everything_unnamed(open_content: Opener):
    content = open_content()
    named, unnamed = content.keep(write(content, a="1")), content.keep(write(content, a="2"))
    left = write(content, a="3")
    content.close()
    assert set(open_content().sweep({named})) == {unnamed, left.name}
    assert content.folder_of(named).is_dir() and not content.folder_of(unnamed).exists() and not left.exists()


def test_beside_another_server_only_what_is_old_goes(open_content: Opener):
    running, starting = open_content(), open_content()
    running.sweep(set())
    young, old = running.keep(write(running, a="1")), running.keep(write(running, a="2"))
    age(running.folder_of(old))
    uploading = write(running, a="3")
    assert starting.sweep(set()) == [old]
    assert running.folder_of(young).is_dir() and uploading.is_dir()


def test_dropping_beside_another_server_begins_the_grace(open_content: Opener):
    running, other = open_content(), open_content()
    running.sweep(set())
    other.sweep(set())
    digest = running.keep(write(running, a="1"))
    age(running.folder_of(digest))
    running.drop(digest)
    assert running.folder_of(digest).is_dir(), "the other server may be reading it"
    other.close()
    running.drop(digest)
    assert not running.folder_of(digest).exists()


def test_two_servers_start_one_after_the_other(open_content: Opener):
    first = open_content()
    digest = first.keep(write(first, a="1"))
    first.sweep({digest})
    second = open_content()
    second.sweep({digest})
    assert second.folder_of(digest).is_dir()


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "adapters").write_text("a file")
    with pytest.raises(StoreError, match="cannot write into the state folder"):
        ContentStore.open(tmp_path)
