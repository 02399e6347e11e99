"""Who would answer, by the code path that serves."""

import pytest

from tests.server.api.wire import error_of
from tests.server.conftest import Stand

MESSAGES = [{"role": "user", "content": "3 times 4"}]


async def test_route(stand: Stand):
    response = await stand.client.post("/v1/route", json={"messages": MESSAGES})
    body = response.json()
    assert (body["specialist"], body["intent"], body["reason"]) == ("math", "math", "confident")
    assert body["confidence"] == 0.9
    assert sum(body["scores"].values()) == pytest.approx(1)
    assert body["route_ms"] == 1.5
    assert response.headers["x-polymath-specialist"] == "math"
    assert not stand.engine.params
    assert stand.registry.num_acquired == 0


async def test_route_is_the_serving_path(stand: Stand):
    for text in ("3 times 4", "python", "hola", "perhaps", "hello"):
        messages = [{"role": "user", "content": text}]
        routed = (await stand.client.post("/v1/route", json={"messages": messages})).json()
        served = await stand.chat(messages=messages)
        assert routed["specialist"] == served.json()["model"]
        assert routed["reason"] == served.headers["x-polymath-reason"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": MESSAGES, "max_tokens": 3}, "max_tokens"),
        ({"messages": [{"role": "x", "content": ""}]}, "messages.0.role"),
    ],
)
async def test_a_bad_route_request(stand: Stand, body: object, param: str):
    response = await stand.client.post("/v1/route", json=body)
    assert response.status_code == 400
    assert error_of(response)["param"] == param


async def test_route_of_an_unknown_model(stand: Stand):
    response = await stand.client.post("/v1/route", json={"messages": MESSAGES, "model": "nobody"})
    assert response.status_code == 404
