"""The names a request may give as its model."""

import pytest

from tests.server.api.wire import error_of
from tests.server.conftest import Stand

MESSAGES = [{"role": "user", "content": "3 times 4"}]


async def test_models(stand: Stand):
    models = (await stand.client.get("/v1/models")).json()
    assert models["object"] == "list"
    by_id = {model["id"]: model for model in models["data"]}
    assert list(by_id) == ["auto", "base", "code", "loner", "math"]
    assert by_id["math"] == {
        "id": "math",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "polymath",
        "root": "math",
        "parent": "base",
        "max_model_len": 64,
    }
    assert by_id["auto"]["parent"] is by_id["base"]["parent"] is None
    assert by_id["base"]["root"] == "tiny-base"
    for model_id, model in by_id.items():
        assert (await stand.client.get(f"/v1/models/{model_id}")).json() == model
    assert (await stand.client.get("/v1/models/tiny-base")).json()["id"] == "base"


@pytest.mark.parametrize("model_id", ["nobody", "owner/name", "..%2Fetc", "%00", "é"])
async def test_an_unknown_model(stand: Stand, model_id: str):
    response = await stand.client.get(f"/v1/models/{model_id}")
    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"
