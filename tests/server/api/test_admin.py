"""The life of a specialist over HTTP, on the tiny server: what is answered, who answers, what is refused."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from server.keys import fingerprint
from tests.server.api.operator import ADMIN_KEY, Operator, operating, wait_for
from tests.server.api.wire import error_of, events


@pytest.fixture(scope="module")
def server(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operating(tmp_path_factory.mktemp("admin"), tiny_qwen2) as operator:
        yield operator


@pytest.fixture
def operator(server: Operator, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """The shared server; what a test loaded is gone after it, and nothing is held."""
    before = set(server.names())
    yield server
    for name in set(server.names()) - before:
        server.unload(name, force=True)
    wait_for(lambda: not any(s.in_flight for s in server.services.registry.statuses()), "nothing is held")
    server.services.registry.check_integrity()


def test_a_loaded_specialist_is_described_and_answers(operator: Operator):
    path = operator.write("sql", description="queries", examples=["select"], intent="spanish")
    base_text = operator.text("base")
    body = operator.loaded("sql", path)
    assert body["name"] == "sql" and body["generation"] > 0 and len(body["sha256"]) == 64
    assert (body["rank"], body["targets"]) == (4, ["q_proj", "v_proj"])
    assert body["bytes"] > 0 and body["milliseconds"] > 0
    assert body["status"] in ("resident", "active")
    assert (body["routing"], body["source"]) == ("routed", "path")
    assert (body["intent"], body["description"], body["num_examples"]) == ("spanish", "queries", 1)
    assert operator.text("sql") != base_text
    told = operator.get("sql")
    assert told["status"] == "active" and told["last_used"] > 0
    assert "sql" in [model["id"] for model in operator.http.get("/v1/models").json()["data"]]


def test_what_the_operator_says_stands_for_the_manifest(operator: Operator):
    path = operator.write("said", intent="code", description="as made")
    body = operator.loaded("other", path, intent="spanish", description="as said", examples=["hola", "adios"])
    assert (body["name"], body["intent"], body["description"]) == ("other", "spanish", "as said")
    assert body["num_examples"] == 2


def test_it_is_routed_at_once_and_shadowed_by_an_earlier_name(operator: Operator):
    path = operator.write("espanol")
    assert operator.loaded("espanol", path)["routing"] == "by_name_only"
    assert operator.loaded("espanol", path, intent="spanish", replace=True)["routing"] == "routed"
    ask: dict[str, Any] = {"messages": [{"role": "user", "content": "hola"}]}
    assert operator.chat("auto", **ask).headers["x-polymath-specialist"] == "espanol"
    assert operator.loaded("a-spanish", path, intent="spanish")["routing"] == "routed"
    assert operator.get("espanol")["routing"] == "shadowed"


def test_an_intent_the_delegator_does_not_know_is_reached_by_name(operator: Operator):
    body = operator.loaded("poet", operator.write("poet"), intent="poetry", examples=["a sonnet"])
    assert body["routing"] == "by_name_only"
    assert operator.chat("poet").headers["x-polymath-specialist"] == "poet"


def test_headers_name_the_generation_also_of_a_stream(operator: Operator):
    first = operator.loaded("gen", operator.write("gen1", seed=1))["generation"]
    second = operator.loaded("gen", operator.write("gen2", seed=2), replace=True)["generation"]
    assert second > first
    for stream in (False, True):
        headers = operator.chat("gen", stream=stream).headers
        assert headers["x-polymath-specialist"] == "gen"
        assert headers["x-polymath-generation"] == str(second)


def test_a_replaced_one_answers_anew_and_never_from_the_old_ones_cache(operator: Operator):
    one, two = operator.write("one", seed=11), operator.write("two", seed=12)
    operator.loaded("twice", one)
    text_of_one = operator.text("twice")
    operator.loaded("twice", two, replace=True)
    text_of_two = operator.text("twice")
    operator.loaded("alone", two)
    assert text_of_two == operator.text("alone") != text_of_one
    operator.loaded("twice", one, replace=True)
    assert operator.text("twice") == text_of_one


def test_replacing_takes_what_is_expected(operator: Operator):
    path = operator.write("cas")
    assert operator.load("cas", path, expected_generation=5).json()["error"]["code"] == "generation_mismatch"
    generation = operator.loaded("cas", path, expected_generation=0)["generation"]
    refused = operator.load("cas", path, replace=True, expected_generation=generation + 1)
    assert (refused.status_code, error_of(refused)["code"]) == (409, "generation_mismatch")
    assert str(generation) in error_of(refused)["message"]
    newer = operator.loaded("cas", path, replace=True, expected_generation=generation)["generation"]
    assert operator.unload("cas", expected_generation=generation).status_code == 409
    stale = operator.http.patch(
        "/admin/adapters/cas", json={"pinned": True, "expected_generation": generation}
    )
    assert stale.status_code == 409 and not operator.get("cas")["pinned"]
    assert operator.unload("cas", expected_generation=newer).status_code == 200


def test_a_failed_replace_leaves_the_old_one(operator: Operator):
    body = operator.loaded("kept", operator.write("kept", seed=3), pinned=True)
    text = operator.text("kept")
    damaged = operator.write("damaged", seed=4)
    (damaged / "adapter_model.safetensors").write_bytes(b"damaged")
    refused = operator.load("kept", damaged, replace=True)
    assert refused.status_code == 400 and "adapter_model.safetensors" in error_of(refused)["message"]
    after = operator.get("kept")
    assert (after["generation"], after["sha256"], after["pinned"]) == (
        body["generation"],
        body["sha256"],
        True,
    )
    assert operator.text("kept") == text


def test_an_adapter_that_does_nothing_is_refused_by_the_trial(operator: Operator):
    import torch
    from safetensors.torch import load_file, save_file

    path = operator.write("nothing")
    weights = path / "adapter_model.safetensors"
    tensors = {name: t * (0 if "lora_B" in name else 1) for name, t in load_file(weights).items()}
    assert all(torch.isfinite(t).all() for t in tensors.values())
    save_file(tensors, weights)
    refused = operator.load("nothing", path)
    assert (refused.status_code, error_of(refused)["code"]) == (400, "no_effect")
    assert "nothing" not in operator.names()
    assert operator.services.roster.record("nothing") is None


@pytest.mark.parametrize(
    ("outside", "status", "code"),
    [
        ("/etc", 403, "outside_roots"),
        ("{root}/../catalog-of-nobody", 403, "outside_roots"),
        ("{root}/link", 403, "outside_roots"),
        ("{root}/absent", 404, "folder_missing"),
        ("{root}", 403, "outside_roots"),
    ],
)
def test_paths_are_held_inside_the_roots(operator: Operator, outside: str, status: int, code: str):
    link = operator.root / "link"
    if not link.exists():
        link.symlink_to(operator.base)
    refused = operator.load("escapee", Path(outside.format(root=operator.root)))
    assert (refused.status_code, error_of(refused)["code"]) == (status, code)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "x", "paht": "/x"}, "paht"),
        ({"name": "x", "replace": "yes"}, "replace"),
        ({"name": "x", "expected_generation": -1}, "expected_generation"),
        ({"name": "x", "examples": "one"}, "examples"),
        ({"name": "x", "path": "a\0b"}, "path"),
        ({}, "name"),
    ],
)
def test_a_body_that_is_not_as_it_should_be_names_its_field(
    operator: Operator, fields: dict[str, Any], param: str
):
    refused = operator.http.post("/admin/adapters", json=fields)
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


@pytest.mark.parametrize("name", ["auto", "base"])
def test_reserved_names(operator: Operator, name: str):
    refused = operator.load(name, operator.root / "sql")
    assert error_of(refused)["code"] == "name_reserved"


@pytest.mark.parametrize("name", ["Upper", "a b", "../up", "-x", "ä"])
def test_unusable_names(operator: Operator, name: str):
    refused = operator.load(name, operator.write(f"named-{abs(hash(name))}"))
    assert (refused.status_code, error_of(refused)["code"]) == (400, "name_invalid")


def test_other_bodies(operator: Operator):
    text = operator.http.post("/admin/adapters", content=b"x", headers={"content-type": "text/plain"})
    assert text.status_code == 415
    broken = operator.http.post("/admin/adapters", content=b"{", headers={"content-type": "application/json"})
    assert error_of(broken)["code"] == "invalid_json"
    empty = operator.http.patch("/admin/adapters/math", json={})
    assert empty.status_code == 400 and "neither" in error_of(empty)["message"]


def test_unknown_names(operator: Operator):
    for method, arguments in (("GET", {}), ("PATCH", {"json": {"pinned": True}}), ("DELETE", {})):
        response = operator.http.request(method, "/admin/adapters/nobody", **arguments)  # type: ignore[arg-type]
        assert (response.status_code, error_of(response)["code"]) == (404, "adapter_not_found")
    assert operator.load("nobody").status_code == 404  # no path, and no such specialist in the catalog


def test_pins_and_routing_can_be_changed(operator: Operator):
    operator.loaded("pins", operator.write("pins"), intent="spanish")
    changed = operator.http.patch("/admin/adapters/pins", json={"pinned": True, "routable": False}).json()
    assert (changed["pinned"], changed["routable"], changed["routing"]) == (True, False, "off")
    ask: dict[str, Any] = {"messages": [{"role": "user", "content": "hola"}]}
    assert operator.chat("auto", **ask).headers["x-polymath-specialist"] == "base"
    assert operator.chat("pins").status_code == 200
    replaced = operator.loaded("pins", operator.root / "pins", replace=True, intent="spanish")
    assert (replaced["pinned"], replaced["routable"]) == (True, False), "a replaced one keeps what was said"


def test_unload_twice(operator: Operator):
    operator.loaded("gone", operator.write("gone"))
    first = operator.unload("gone")
    assert (first.status_code, first.json()["status"], first.json()["in_flight"]) == (200, "unloaded", 0)
    assert operator.unload("gone").status_code == 404
    assert operator.chat("gone").json()["error"]["code"] == "model_not_found"


def test_unloading_waits_for_what_runs_and_says_so_at_the_deadline(operator: Operator):
    generation = operator.loaded("busy", operator.write("busy"))["generation"]
    registry = operator.services.registry
    held = registry.acquire("busy")
    response = operator.unload("busy", timeout=0.05)
    assert (response.status_code, response.json()["status"], response.json()["in_flight"]) == (
        202,
        "draining",
        1,
    )
    assert operator.chat("busy").status_code == 404, "the name is gone at once"
    listing = operator.http.get("/admin/adapters").json()
    assert listing["draining"] == [{"name": "busy", "generation": generation, "in_flight": 1}]
    assert "busy" not in [entry["name"] for entry in listing["data"]]
    again = operator.loaded("busy", operator.root / "busy")
    assert again["generation"] > generation
    assert again["draining"] == [{"name": "busy", "generation": generation, "in_flight": 1}]
    registry.release(held)
    assert operator.get("busy")["draining"] == []


def test_unloading_ends_when_the_last_answer_does(operator: Operator):
    operator.loaded("patient", operator.write("patient"))
    registry = operator.services.registry
    held = registry.acquire("patient")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(operator.unload, "patient", timeout=30)
        wait_for(lambda: "patient" not in registry.names(), "the name is gone")
        assert not waiting.done()
        registry.release(held)
        assert waiting.result(timeout=30).json()["status"] == "unloaded"


@pytest.mark.parametrize("stream", [True, False])
def test_force_ends_what_runs_with_an_error_it_can_see(operator: Operator, stream: bool):
    operator.loaded("forced", operator.write(f"forced-{int(stream)}"))
    registry = operator.services.registry
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(operator.chat, "forced", stream=stream, max_tokens=450, ignore_eos=True)
        wait_for(lambda: registry.num_in_flight("forced") == 1, "the request is in flight")
        response = operator.unload("forced", force=True)
        assert (response.status_code, response.json()["status"]) == (200, "unloaded")
        answer = asking.result(timeout=30)
    error = events(answer.text)[-1]["error"] if answer.text.startswith("data") else error_of(answer)
    assert error["code"] == "specialist_unloaded"
    assert answer.status_code in ((200, 503) if stream else (503,))


def test_a_request_in_flight_finishes_on_its_generation(operator: Operator):
    one, two = operator.write("old", seed=21), operator.write("new", seed=22)
    first = operator.loaded("moving", one)["generation"]
    alone = operator.chat("moving", max_tokens=300, ignore_eos=True)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(operator.chat, "moving", max_tokens=300, ignore_eos=True)
        wait_for(lambda: operator.services.registry.num_in_flight("moving") == 1, "in flight")
        operator.loaded("moving", two, replace=True)
        operator.unload("moving", timeout=0)
        answer = asking.result(timeout=60)
    assert answer.headers["x-polymath-generation"] == str(first)
    assert answer.json()["choices"] == alone.json()["choices"]


def test_two_loads_of_one_name_at_once(operator: Operator):
    paths = [operator.write(f"race{number}", seed=30 + number) for number in range(6)]
    barrier = threading.Barrier(len(paths))

    def race(path: Path) -> int:
        barrier.wait()
        return operator.load("raced", path).status_code

    with ThreadPoolExecutor(len(paths)) as pool:
        statuses = sorted(pool.map(race, paths))
    assert statuses == [201, 409, 409, 409, 409, 409]
    assert operator.get("raced")["draining"] == []


def test_load_against_unload_leaves_what_the_later_said(operator: Operator):
    path = operator.write("tug")

    def act(number: int) -> tuple[str, int]:
        if number % 2:
            return "load", operator.load("tug", path, replace=True).status_code
        return "unload", operator.unload("tug").status_code

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(act, range(40)))
    assert {status for kind, status in results if kind == "load"} == {201}
    assert {status for kind, status in results if kind == "unload"} <= {200, 202, 404}
    is_loaded = "tug" in operator.services.registry.names()
    assert is_loaded == (operator.services.roster.record("tug") is not None)


def test_catalog_specialists_can_be_unloaded_and_come_back_by_name(operator: Operator):
    assert operator.unload("loner").status_code == 200
    assert operator.chat("loner").status_code == 404
    body = operator.loaded("loner")
    assert body["source"] == "catalog"
    assert operator.chat("loner").status_code == 200


def test_no_answer_to_clients_names_a_path(operator: Operator):
    operator.loaded("secretive", operator.write("secretive"))
    for path in ("/v1/models", "/v1/models/secretive", "/ready", "/metrics"):
        assert str(operator.root) not in operator.http.get(path).text


def test_metrics_tell_of_every_specialist(operator: Operator):
    done = operator.metric("polymath_adapter_operations_total", operation="load", outcome="done")
    refused = operator.metric("polymath_adapter_operations_total", operation="load", outcome="refused")
    loads = operator.metric("polymath_adapter_load_seconds_count")
    body = operator.loaded("counted", operator.write("counted"))
    operator.load("counted", operator.root / "counted")
    assert operator.metric("polymath_adapter_operations_total", operation="load", outcome="done") == done + 1
    assert (
        operator.metric("polymath_adapter_operations_total", operation="load", outcome="refused")
        == refused + 1
    )
    assert operator.metric("polymath_adapter_load_seconds_count") == loads + 1
    assert operator.metric("polymath_adapter_bytes", specialist="counted") == body["bytes"]
    states = ("registered", "resident", "active")
    total = sum(operator.metric("polymath_adapters", state=state) for state in states)
    assert total == len(operator.services.registry.names())


def test_every_action_is_in_the_audit_log(operator: Operator, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="server.audit"):
        generation = operator.loaded("audited", operator.write("audited"))["generation"]
        operator.http.patch("/admin/adapters/audited", json={"pinned": True})
        operator.load("audited", operator.root / "audited")
        operator.load("audited", Path("/etc"))
        operator.unload("audited", force=True)
        operator.http.post("/v1/unload_lora_adapter", json={"lora_name": "audited"})
    lines = [vars(record) for record in caplog.records if record.name == "server.audit"]
    told = [(line["action"], line["outcome"], line["code"], line["generation"]) for line in lines]
    assert told == [
        ("load", "done", None, generation),
        ("update", "done", None, generation),
        ("load", "refused", "name_taken", None),
        ("load", "refused", "outside_roots", None),
        ("unload --force", "done", None, generation),
        ("unload", "refused", "adapter_not_found", None),
    ]
    assert {line["specialist"] for line in lines} == {"audited"}
    assert {line["who"] for line in lines} == {f"key:{fingerprint(ADMIN_KEY)}"}


def test_the_openapi_page_shows_what_is_refused(operator: Operator):
    page = operator.http.get("/openapi.json").json()
    responses = page["paths"]["/admin/adapters"]["post"]["responses"]
    assert {"201", "400", "401", "403", "404", "409", "413", "503", "507"} <= set(responses)
    examples = responses["409"]["content"]["application/json"]["examples"]
    assert {"name_taken", "generation_mismatch", "changed_elsewhere"} <= set(examples)
    assert "multipart/form-data" in page["paths"]["/admin/adapters"]["post"]["requestBody"]["content"]
    assert "LoadAdapterRequest" in json.dumps(page["components"]["schemas"])
