"""What operators did is there after a restart, and on the other servers of the same database."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from server.store.errors import StoreError
from server.store.record import Source, SpecialistRecord
from tests.server.api.operator import Operator, operating, wait_for
from tests.server.api.wire import error_of
from tests.server.postgres import running_postgres


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of one server through all its restarts."""
    return tmp_path


def upload(operator: Operator, name: str, folder: Path, **fields: Any) -> None:
    files = [("file", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    response = operator.http.post("/admin/adapters", data={"name": name, **fields}, files=files)
    assert response.status_code == 201, response.text


def change(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(weights).items()}, weights)


def told(operator: Operator, name: str) -> dict[str, Any]:
    fields = ("sha256", "source", "intent", "description", "num_examples", "pinned", "routable", "routing")
    body = operator.get(name)
    return {field: body[field] for field in fields}


def test_everything_said_comes_back_after_a_restart(tiny_qwen2: Path, root: Path):
    with operating(root, tiny_qwen2) as operator:
        folder = operator.write("sql", seed=60)
        operator.loaded("sql", folder, intent="spanish", description="said", examples=["a", "b"], pinned=True)
        upload(operator, "sent", operator.write("sent", seed=61), intent="code")
        operator.http.patch("/admin/adapters/sent", json={"routable": False})
        operator.http.patch("/admin/adapters/math", json={"pinned": True, "routable": False})
        assert operator.unload("loner").status_code == 200
        before = {name: told(operator, name) for name in ("sql", "sent", "math", "code")}
        texts = {name: operator.text(name) for name in ("sql", "sent")}
        generations = [status.generation for status in operator.services.registry.statuses()]
    shutil.rmtree(root / "adapters" / "sent")  # uploaded files are the server's own
    with operating(root, tiny_qwen2) as operator:
        assert operator.names() == ["code", "math", "sent", "sql"]
        assert {name: told(operator, name) for name in before} == before
        assert {name: operator.text(name) for name in texts} == texts
        now = [status.generation for status in operator.services.registry.statuses()]
        assert min(now) > max(generations), "a generation's number never comes back"
        assert operator.loaded("loner")["source"] == "catalog"
    with operating(root, tiny_qwen2) as operator:
        assert "loner" in operator.names()


def test_a_replaced_catalog_specialist_stays_replaced(tiny_qwen2: Path, root: Path):
    with operating(root, tiny_qwen2) as operator:
        original = operator.get("math")["sha256"]
        better = operator.loaded("math", operator.write("better", seed=62), replace=True)["sha256"]
    with operating(root, tiny_qwen2) as operator:
        assert (operator.get("math")["sha256"], operator.get("math")["source"]) == (better, "path")
        assert operator.loaded("math", replace=True)["sha256"] == original
    with operating(root, tiny_qwen2) as operator:
        assert (operator.get("math")["sha256"], operator.get("math")["source"]) == (original, "catalog")


def test_files_that_changed_are_not_taken_for_what_was_loaded(tiny_qwen2: Path, root: Path):
    with operating(root, tiny_qwen2) as operator:
        folder = operator.write("sql", seed=63)
        operator.loaded("sql", folder, pinned=True)
    change(folder)
    with operating(root, tiny_qwen2) as operator:
        body = operator.get("sql")
        assert (body["status"], body["generation"], body["pinned"]) == ("refused", None, True)
        assert "has changed since it was loaded" in body["error"]
        assert operator.chat("sql").status_code == 404
        assert operator.http.get("/ready").json()["refused"] == ["sql"]
        again = operator.load("sql", folder)
        assert (again.status_code, error_of(again)["code"]) == (409, "name_taken")
        assert operator.loaded("sql", folder, replace=True)["error"] is None
        assert operator.text("sql")


def test_what_cannot_be_loaded_any_more_can_be_unloaded(tiny_qwen2: Path, root: Path):
    with operating(root, tiny_qwen2) as operator:
        folder = operator.write("sql", seed=64)
        operator.loaded("sql", folder)
    shutil.rmtree(folder)
    with operating(root, tiny_qwen2) as operator:
        assert operator.get("sql")["status"] == "refused"
        response = operator.unload("sql")
        assert (response.status_code, response.json()["generation"]) == (200, None)
        assert "sql" not in operator.names()
    with operating(root, tiny_qwen2) as operator:
        assert "sql" not in operator.names()


def test_roots_that_were_narrowed_hold_for_what_was_loaded_before(tiny_qwen2: Path, root: Path):
    with operating(root, tiny_qwen2) as operator:
        operator.loaded("sql", operator.write("sql", seed=65))
    with operating(root, tiny_qwen2, adapter_roots=[]) as operator:
        assert "not inside" in operator.get("sql")["error"]


def test_a_commit_that_fails_changes_nothing(tiny_qwen2: Path, root: Path, monkeypatch: pytest.MonkeyPatch):
    with operating(root, tiny_qwen2) as operator:
        old = operator.loaded("sql", operator.write("sql", seed=66))
        store = operator.services.roster._ledger._store

        def fail(*_: object) -> SpecialistRecord:
            raise StoreError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(store, "put", fail)
            patch.setattr(store, "delete", fail)
            for response in (
                operator.load("sql", operator.write("other", seed=67), replace=True),
                operator.http.patch("/admin/adapters/sql", json={"pinned": True, "routable": False}),
                operator.unload("sql"),
            ):
                assert (response.status_code, error_of(response)["code"]) == (503, "store_unavailable")
        body = operator.get("sql")
        assert (body["generation"], body["pinned"], body["routable"]) == (old["generation"], False, True)


def test_a_load_that_fails_after_its_commit_is_taken_back(tiny_qwen2: Path, root: Path):
    """Without room for one more pinned specialist the registry refuses at the very end."""
    with operating(root, tiny_qwen2, max_resident_adapters=4) as operator:
        for name in ("math", "code", "loner"):
            assert operator.http.patch(f"/admin/adapters/{name}", json={"pinned": True}).status_code == 200
        operator.loaded("fourth", operator.write("fourth", seed=68), pinned=True)
        refused = operator.load("fifth", operator.write("fifth", seed=69), pinned=True)
        assert (refused.status_code, error_of(refused)["code"]) == (507, "no_room")
        assert operator.services.roster.record("fifth") is None
        assert operator.loaded("fifth", operator.root / "fifth")["status"] == "registered"
        refused = operator.http.patch("/admin/adapters/fifth", json={"pinned": True})
        assert (refused.status_code, error_of(refused)["code"]) == (507, "no_room")
        assert not operator.get("fifth")["pinned"]
        metric = operator.metric
        assert metric("polymath_adapters", state="registered") == 1
        assert metric("polymath_adapter_bytes", specialist="fifth") == 0


def test_a_specialist_out_of_memory_comes_back_with_its_first_request(tiny_qwen2: Path, root: Path):
    with operating(root, tiny_qwen2, max_resident_adapters=2) as operator:
        texts = {name: operator.text(name) for name in ("math", "code", "loner")}
        assert sum(entry["status"] == "registered" for entry in listing(operator)) == 1
        assert {name: operator.text(name) for name in texts} == texts


def listing(operator: Operator) -> list[dict[str, Any]]:
    return list(operator.http.get("/admin/adapters").json()["data"])


@contextmanager
def two_servers(
    root: Path, base: Path, url: str | None, **settings: Any
) -> Iterator[tuple[Operator, Operator]]:
    """Two servers that share a database, a state folder and the folder of adapters."""
    with ExitStack() as stack:
        shared = {"database_url": url, "state_folder": root / "state", **settings}
        first = stack.enter_context(operating(make(root / "first"), base, **shared))
        roots = [first.root]
        second = stack.enter_context(operating(make(root / "second"), base, adapter_roots=roots, **shared))
        yield first, second


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with ExitStack() as stack:
        yield stack.enter_context(running_postgres()) if request.param == "postgres" else None


def test_servers_of_one_database_take_over_what_others_did(
    tiny_qwen2: Path, root: Path, database_url: str | None
):
    with two_servers(root, tiny_qwen2, database_url, refresh_seconds=0.05) as (here, there):
        here.loaded("sql", here.write("sql", seed=71), intent="spanish", pinned=True)
        upload(here, "sent", here.write("sent", seed=72))
        wait_for(lambda: {"sql", "sent"} <= set(there.services.registry.names()), "both are loaded there")
        assert told(there, "sql") == told(here, "sql")
        assert there.text("sent") == here.text("sent")
        there.http.patch("/admin/adapters/sql", json={"pinned": False, "routable": False})
        wait_for(lambda: not here.get("sql")["routable"], "it is changed here")
        assert not here.get("sql")["pinned"]
        generation = here.get("sql")["generation"]
        replaced = there.loaded("sql", here.write("more", seed=73), replace=True)["sha256"]
        wait_for(lambda: here.get("sql")["sha256"] == replaced, "it is replaced here")
        assert here.get("sql")["generation"] > generation
        here.unload("sql")
        here.unload("loner")
        wait_for(lambda: not {"sql", "loner"} & set(there.services.registry.names()), "they are gone there")
        there.loaded("loner")
        wait_for(lambda: "loner" in here.services.registry.names(), "it is back here")


def test_an_operation_knows_what_others_did_before_it(tiny_qwen2: Path, root: Path, database_url: str | None):
    """Without any regular refresh: each operation looks first."""
    with two_servers(root, tiny_qwen2, database_url) as (here, there):
        folder = here.write("sql", seed=74)
        here.loaded("sql", folder)
        taken = there.load("sql", folder)
        assert (taken.status_code, error_of(taken)["code"]) == (409, "name_taken")
        assert there.text("sql") == here.text("sql"), "it was taken over on the way"
        assert there.unload("sql").status_code == 200
        assert here.unload("sql").status_code == 404


def test_a_database_that_is_gone_closes_admin_and_nothing_else(tiny_qwen2: Path, root: Path):
    with operating(root, tiny_qwen2) as operator:
        store = operator.services.roster._ledger._store
        with pytest.MonkeyPatch.context() as patch:

            def gone() -> int:
                raise StoreError("the database is gone")

            patch.setattr(store, "revision", gone)
            assert operator.load("x", operator.root / "x").status_code == 503
            assert operator.unload("math").status_code == 503
            assert operator.text("math")
            assert operator.http.get("/admin/adapters").status_code == 200
        assert operator.get("math")["source"] == Source.CATALOG
