"""The hub's real client against a small hub of our own: whole, resumed, wrong, absent, mute."""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from specialists.sources.artifacts import Artifact
from specialists.sources.cache import check_folder
from specialists.sources.errors import BaseModelError, MirrorError, SourceError
from specialists.sources.fetch import fetch
from specialists.sources.hub import HubMirror, within_seconds
from specialists.sources.importing import HubSource

from .conftest import RecordedProgress, pinned

CONTENT = bytes(range(256)) * 4000
COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Serves `files` under any repository. `break_after` cuts the next download off after so many bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files: dict[str, bytes] = {}
        self.tags_are_sha256 = True
        self.break_after: int | None = None
        self.is_down = False
        self.requests: list[tuple[str, str | None]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        if self.path.startswith("/api/models/"):
            self.describe()
            return
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        content = self.server.files.get(name)
        if with_body:
            self.server.requests.append((self.path, self.headers["Range"]))
        if content is None or self.server.is_down:
            self.send_response(503 if self.server.is_down else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_file_headers(content, start)
        if with_body:
            self.send_body(content[start:])

    def describe(self) -> None:
        sizes = {name: len(content) for name, content in self.server.files.items()}
        siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        tree = [{"type": "file", "path": name, "size": size, "oid": "a"} for name, size in sizes.items()]
        model = {"id": "owner/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}
        body = json.dumps(tree if "/tree/" in self.path else model).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_file_headers(self, content: bytes, start: int) -> None:
        tag = hashlib.sha256(content).hexdigest() if self.server.tags_are_sha256 else "a" * 40
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()

    def send_body(self, body: bytes) -> None:
        cut, self.server.break_after = self.server.break_after, None
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.server.is_down = True
            self.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def artifact_of(hub: Hub, *, content: bytes = CONTENT) -> Artifact:
    mirrors = (HubMirror(repo="owner/tiny", endpoint=hub.endpoint),)
    return Artifact(name="tiny", files=(pinned(content),), mirrors=mirrors, imported_size=0)


def test_file_of_the_hub(hub: Hub, tmp_path: Path, progress: RecordedProgress):
    hub.files["weights.bin"] = CONTENT
    path = fetch(artifact_of(hub), tmp_path / "downloads", progress)
    assert path.read_bytes() == CONTENT
    assert [item.name for item in path.parent.iterdir()] == ["weights.bin"]
    assert progress.completed["Hugging Face hub"] == len(CONTENT)
    assert not progress.open


def test_other_content_is_refused_without_fetching_it(hub: Hub, tmp_path: Path):
    hub.files["weights.bin"] = b"something else"
    with pytest.raises(
        SourceError, match=r"its weights\.bin has another content \(sha256 [0-9a-f]{16}\.\.\."
    ):
        fetch(artifact_of(hub), tmp_path / "downloads")
    assert not hub.requests
    assert not (tmp_path / "downloads").exists()


def test_other_content_under_a_tag_that_says_nothing(hub: Hub, tmp_path: Path):
    hub.files["weights.bin"] = CONTENT[:-1] + b"?"
    hub.tags_are_sha256 = False
    with pytest.raises(SourceError, match=r"its weights\.bin has another content"):
        fetch(artifact_of(hub), tmp_path / "downloads")
    assert len(hub.requests) == 1
    assert not (tmp_path / "downloads").exists()


def test_other_size_is_refused_without_fetching_it(hub: Hub, tmp_path: Path):
    hub.files["weights.bin"] = CONTENT[:-1]
    hub.tags_are_sha256 = False
    with pytest.raises(SourceError, match=rf"its weights\.bin has {len(CONTENT) - 1} bytes, expected"):
        fetch(artifact_of(hub), tmp_path / "downloads")
    assert not hub.requests


def test_file_that_the_hub_does_not_have(hub: Hub, tmp_path: Path):
    with pytest.raises(SourceError, match="404 Not Found"):
        fetch(artifact_of(hub), tmp_path / "downloads")


def test_broken_off_download_is_resumed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 64 << 10)
    hub.files["weights.bin"] = CONTENT
    hub.break_after = 600_000
    with pytest.raises(SourceError, match="not available"):
        fetch(artifact_of(hub), tmp_path / "downloads")
    (partial,) = (tmp_path / "downloads").rglob("weights.bin")
    kept = partial.stat().st_size
    assert 0 < kept <= 600_000
    hub.is_down = False
    hub.requests.clear()
    assert fetch(artifact_of(hub), tmp_path / "downloads").read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.requests] == [f"bytes={kept}-"]


def test_whole_model_of_the_hub(hub: Hub, tiny_qwen2: Path, tmp_path: Path, progress: RecordedProgress):
    hub.files = {path.name: path.read_bytes() for path in tiny_qwen2.iterdir()}
    wanted = set(hub.files)
    hub.files |= {"README.md": b"no", "pytorch_model.bin": b"no", "onnx/model.safetensors": b"no"}
    source = HubSource("owner/tiny", "base", ("qwen2",), hub.endpoint)
    folder = source.bring(tmp_path, progress)
    assert source.locate(tmp_path) == folder
    assert check_folder(folder).source == "owner/tiny"
    assert {path.name for path in folder.iterdir()} == wanted | {"polymath.json"}
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert not (tmp_path / "downloads").exists()
    assert not progress.open


def test_model_of_the_hub_that_we_cannot_serve(hub: Hub, tmp_path: Path, progress: RecordedProgress):
    hub.files = {"config.json": b'{"model_type": "llama"}'}
    with pytest.raises(BaseModelError, match="model_type is 'llama'"):
        HubSource("owner/tiny", "base", ("qwen2",), hub.endpoint).bring(tmp_path, progress)
    assert not (tmp_path / "downloads").exists()


def test_offline_switch_is_honored(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.files["weights.bin"] = CONTENT
    with pytest.raises(SourceError, match="offline mode"):
        fetch(artifact_of(hub), tmp_path / "downloads")
    assert not hub.requests


def test_mute_hub_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("specialists.sources.hub._CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mirror = HubMirror(repo="owner/tiny", endpoint=f"http://127.0.0.1:{mute.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(MirrorError):
            mirror.fetch((pinned(CONTENT),), tmp_path, RecordedProgress())
        assert time.monotonic() - started < 4  # a single attempt, no series of retries


def test_call_that_never_returns_is_left_alone():
    release = threading.Event()
    with pytest.raises(TimeoutError):
        within_seconds(0.05, release.wait)
    release.set()
