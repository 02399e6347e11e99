"""Request ids, and the last word of what nobody caught."""

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.api.middleware import RequestContextMiddleware
from server.metrics import Metrics
from tests.server.conftest import Stand

MESSAGES = [{"role": "user", "content": "3 times 4"}]


async def test_request_ids(stand: Stand):
    response = await stand.client.get("/health", headers={"x-request-id": "mine-1.2:3_4"})
    assert response.headers["x-request-id"] == "mine-1.2:3_4"
    for unusable in ("", "a b", "x" * 129, "né"):
        response = await stand.client.get("/health", headers={"x-request-id": unusable.encode()})  # type: ignore[dict-item]
        assert response.headers["x-request-id"].startswith("req_")


async def test_answers_are_counted_by_status(stand: Stand):
    await stand.client.get("/health")
    await stand.client.get("/nothing")
    await stand.chat(temperature="hot")
    assert stand.metric("polymath_http_responses_total", status="200") >= 1
    assert stand.metric("polymath_http_responses_total", status="404") == 1
    assert stand.metric("polymath_http_responses_total", status="400") == 1


async def test_each_request_is_one_log_line(stand: Stand, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "server.access")
    await stand.chat()
    await stand.client.get("/health")  # asked for every few seconds by whoever watches: not worth a line
    (line,) = [record for record in caplog.records if record.name == "server.access"]
    assert line.getMessage() == "POST /v1/chat/completions"
    assert vars(line)["status"] == 200 and vars(line)["specialist"] == "math"


async def test_an_exception_after_the_start_closes_the_connection():
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("late")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    app = RequestContextMiddleware(broken, metrics=Metrics())
    with pytest.raises(KeyError):
        await app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    assert len(sent) == 1
