"""vLLM's two endpoints, as the controllers that call them expect them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.api.operator import Operator, operating


@pytest.fixture(scope="module")
def operator(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operating(tmp_path_factory.mktemp("vllm"), tiny_qwen2) as operator:
        operator.write("sql", seed=80)
        yield operator


def load(operator: Operator, **body: Any) -> httpx.Response:
    return operator.http.post("/v1/load_lora_adapter", json=body)


def unload(operator: Operator, **body: Any) -> httpx.Response:
    return operator.http.post("/v1/unload_lora_adapter", json=body)


def error(response: httpx.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    told = response.json()["error"]
    assert (told["type"], told["param"], told["code"]) == (kind, None, status)
    return str(told["message"])


def test_a_whole_life(operator: Operator):
    path = str(operator.root / "sql")
    loaded = load(operator, lora_name="sql", lora_path=path)
    assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'sql' added successfully.")
    assert loaded.headers["content-type"].startswith("text/plain")
    assert operator.chat("sql").json()["model"] == "sql"

    again = load(operator, lora_name="sql", lora_path=path)
    assert error(again, 400, "InvalidUserInput") == (
        "The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set "
        "'load_inplace' to True."
    )
    generation = operator.get("sql")["generation"]
    in_place = load(operator, lora_name="sql", lora_path=path, load_inplace=True)
    assert in_place.text == "Success: LoRA adapter 'sql' added successfully."
    assert operator.get("sql")["generation"] > generation

    gone = unload(operator, lora_name="sql", lora_int_id=None)
    assert (gone.status_code, gone.text) == (200, "Success: LoRA adapter 'sql' removed successfully.")
    missing = unload(operator, lora_name="sql")
    assert error(missing, 404, "NotFoundError") == "The lora adapter 'sql' cannot be found."


def test_what_is_missing(operator: Operator):
    message = "Both 'lora_name' and 'lora_path' must be provided."
    for body in ({"lora_name": "", "lora_path": "/x"}, {"lora_name": "x", "lora_path": ""}):
        assert error(load(operator, **body), 400, "InvalidUserInput") == message
    assert "lora_path" in error(load(operator, lora_name="x"), 400, "BadRequestError")
    assert "lora_name" in error(unload(operator), 400, "BadRequestError")
    told = error(unload(operator, lora_name=""), 400, "InvalidUserInput")
    assert told == "'lora_name' needs to be provided to unload a LoRA adapter."
    error(load(operator, lora_name="x", lora_path="/x", is_3d_lora_weight=True), 400, "InvalidUserInput")


@pytest.mark.parametrize("path", ["/etc", "{root}/absent", "../outside"])
def test_where_there_is_no_adapter(operator: Operator, path: str):
    path = path.format(root=operator.root)
    message = error(load(operator, lora_name="x", lora_path=path), 404, "NotFoundError")
    assert message == f"Loading lora x failed: No adapter found for {path}"


def test_a_damaged_adapter_is_an_internal_error_as_with_vllm(operator: Operator):
    damaged = operator.write("damaged", seed=81)
    (damaged / "adapter_model.safetensors").write_bytes(b"damaged")
    message = error(load(operator, lora_name="x", lora_path=str(damaged)), 500, "InternalServerError")
    assert "adapter_model.safetensors" in message


def test_a_relative_path_is_looked_up_below_the_roots(operator: Operator):
    assert load(operator, lora_name="relative", lora_path="sql").status_code == 200
    assert unload(operator, lora_name="relative").status_code == 200


def test_fields_that_vllm_may_gain_are_ignored(operator: Operator):
    body = {"lora_name": "more", "lora_path": str(operator.root / "sql"), "base_model_name": "b", "new": 1}
    assert load(operator, **body).status_code == 200
    assert unload(operator, lora_name="more").status_code == 200
