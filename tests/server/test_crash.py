"""Killed at random points of loads, replaces and unloads, a server starts again with what it had promised.

What was answered holds. Of an operation that was not answered, either nothing or all has happened. No file is left
without a name, no name without its files.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.api.operator import ADMIN_KEY, wait_for
from tests.server.crash_server import killable_server
from tests.server.postgres import running_postgres
from tests.server.tiny import tiny_settings, write_adapter

pytestmark = pytest.mark.slow

HEADERS = {"authorization": f"Bearer {ADMIN_KEY}"}
NAMES = ("alpha", "beta", "loner")  # the last one is the catalog's
MOST_OPERATIONS = 6  # done in one life before the kill
LAST_MOMENT = 0.05  # seconds: the kill falls anywhere into the operations that follow


@dataclass(frozen=True)
class Fact:
    """What there is under a name: a content (None: nothing) and whether it is pinned."""

    sha256: str | None
    pinned: bool = False


@dataclass
class Worker:
    """Operates on one name, and knows what may be there: after an answer one fact, until then also the next."""

    name: str
    folders: dict[str, Path]  # by content
    certain: Fact
    pending: Fact | None = None
    num_done: int = 0
    rng: random.Random = field(default_factory=random.Random)

    def run(self, url: str) -> None:
        """Until the server is gone."""
        with httpx.Client(base_url=url, headers=HEADERS, timeout=30) as http:
            try:
                while True:
                    self._operate(http)
            except httpx.TransportError:
                return

    def _operate(self, http: httpx.Client) -> None:
        kind = self.rng.choice(("path", "upload", "upload", "unload", "pin"))
        place = f"/admin/adapters/{self.name}"
        if kind == "unload":
            self.pending = Fact(None)
            response = http.delete(place, params={"timeout": 0})
            assert response.status_code == (404 if self.certain.sha256 is None else 200), response.text
        elif kind == "pin":
            pinned = self.rng.random() < 0.5
            self.pending = self.certain if self.certain.sha256 is None else Fact(self.certain.sha256, pinned)
            response = http.patch(place, json={"pinned": pinned})
            assert response.status_code == (404 if self.certain.sha256 is None else 200), response.text
        else:
            sha256, folder = self.rng.choice(list(self.folders.items()))
            self.pending = Fact(sha256, self.certain.pinned)
            response = self._load(http, folder, kind)
            assert response.status_code == 201, response.text
            assert response.json()["sha256"] == sha256
        self.certain, self.pending = self.pending, None
        self.num_done += 1

    def _load(self, http: httpx.Client, folder: Path, kind: str) -> httpx.Response:
        if kind == "path":
            body = {"name": self.name, "path": str(folder), "replace": True}
            return http.post("/admin/adapters", json=body)
        files = [("file", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
        return http.post("/admin/adapters", data={"name": self.name, "replace": "true"}, files=files)

    def settle(self, found: Fact) -> None:
        """What a restarted server has must be one of what may be."""
        possible = [self.certain] + ([] if self.pending is None else [self.pending])
        assert found in possible, f"{self.name}: found {found}, expected one of {possible}"
        self.certain, self.pending = found, None


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with ExitStack() as stack:
        yield stack.enter_context(running_postgres()) if request.param == "postgres" else None


def settings_for(root: Path, base: Path, database_url: str | None) -> dict[str, Any]:
    made = tiny_settings(root, base)
    settings = made.model_dump(include=made.model_fields_set)
    own = {"admin_key": ADMIN_KEY, "adapter_roots": [root / "adapters"], "database_url": database_url}
    return {**settings, **own}


def contents(root: Path, base: Path, settings: dict[str, Any]) -> tuple[dict[str, Path], str]:
    """Some adapters by their content's identity, which the server knows, and the catalog's loner's."""
    folders = [write_adapter(root / f"a{n}", base, intent=None, seed=90 + n) for n in range(4)]
    found = {}
    with (
        killable_server(settings) as server,
        httpx.Client(base_url=server.url, headers=HEADERS, timeout=30) as http,
    ):
        loner = http.get("/admin/adapters/loner").json()["sha256"]
        for folder in folders:
            answer = http.post(
                "/admin/adapters", json={"name": "probe", "path": str(folder), "replace": True}
            )
            found[answer.json()["sha256"]] = folder
        http.delete("/admin/adapters/probe")
    assert len(found) == len(folders)
    return found, loner


def check_restarted(http: httpx.Client, workers: list[Worker], state: Path) -> None:
    listing = {entry["name"]: entry for entry in http.get("/admin/adapters").json()["data"]}
    assert not [entry for entry in listing.values() if entry["error"]], listing
    for worker in workers:
        entry = listing.pop(worker.name, None)
        worker.settle(Fact(None) if entry is None else Fact(entry["sha256"], entry["pinned"]))
        listing |= {} if entry is None else {worker.name: entry}
    assert set(listing) <= {"math", "code", *NAMES}
    uploaded = {entry["sha256"] for entry in listing.values() if entry["source"] == "upload"}
    assert len(list((state / "adapters" / "sha256").iterdir())) == len(uploaded)
    assert list((state / "adapters" / "incoming").iterdir()) == []
    chat = {"model": "math", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    for name in listing:
        assert http.post("/v1/chat/completions", json={**chat, "model": name}).status_code == 200


def test_killed_at_random_points(tiny_qwen2: Path, tmp_path: Path, database_url: str | None):
    num_kills = 50 if database_url is None else 15
    settings = settings_for(tmp_path, tiny_qwen2, database_url)
    folders, loner = contents(tmp_path / "adapters", tiny_qwen2, settings)
    rng = random.Random(4)
    workers = [
        Worker(name, folders, Fact(loner if name == "loner" else None), rng=random.Random(name))
        for name in NAMES
    ]
    num_interrupted = 0
    for _ in range(num_kills):
        with (
            killable_server(settings) as server,
            httpx.Client(base_url=server.url, headers=HEADERS, timeout=30) as http,
        ):
            check_restarted(http, workers, tmp_path / "state")
            failures: list[BaseException] = []

            def work(worker: Worker, url: str = server.url, failures: list[BaseException] = failures) -> None:
                try:
                    worker.run(url)
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
            for thread in threads:
                thread.start()
            _wait_for_operations(workers, rng.randrange(MOST_OPERATIONS))
            time.sleep(rng.uniform(0, LAST_MOMENT))
            server.kill()
            for thread in threads:
                thread.join()
            assert not failures, failures
        num_interrupted += sum(worker.pending is not None for worker in workers)
    assert num_interrupted > num_kills // 2, "the kills must fall into operations"
    assert sum(worker.num_done for worker in workers) > num_kills
    with killable_server(settings) as server, httpx.Client(base_url=server.url, headers=HEADERS) as http:
        check_restarted(http, workers, tmp_path / "state")


def _wait_for_operations(workers: list[Worker], num_operations: int) -> None:
    wanted = sum(worker.num_done for worker in workers) + num_operations
    wait_for(lambda: sum(worker.num_done for worker in workers) >= wanted, "the server has worked")
