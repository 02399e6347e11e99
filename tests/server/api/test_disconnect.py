"""A client may leave, and an engine may die, at any moment: nothing stays held, whatever the moment."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from server.app import create_app
from server.lifecycle import Lifecycle
from server.settings import Settings
from specialists.engine.async_engine import EngineDeadError, EngineOverloadedError
from tests.server.conftest import Stand, fake_services, wait_until
from tests.server.fakes import CountingRegistry, KeywordDelegator, ScriptedEngine


@dataclass
class Client:
    """One ASGI exchange under the test's control: it can go away at any moment, as uvicorn tells of it."""

    body: dict[str, Any]
    sent: list[Message] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    leave_after_messages: int | None = None
    _is_read: bool = False

    async def receive(self) -> Message:
        if not self._is_read:
            self._is_read = True
            return {"type": "http.request", "body": json.dumps(self.body).encode(), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        if self.gone.is_set():
            return  # as uvicorn does
        self.sent.append(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        if is_last or len(self.sent) == self.leave_after_messages:
            self.gone.set()  # uvicorn reports a disconnect after every complete answer too

    async def run(self, app: ASGIApp) -> None:
        headers = [(b"content-type", b"application/json")]
        path = "/v1/chat/completions"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": headers,
            "http_version": "1.1",
            "server": ("test", 80),
            "client": ("127.0.0.1", 1),
        }
        await app(scope, self.receive, self.send)

    @property
    def is_complete(self) -> bool:
        return (
            bool(self.sent)
            and self.sent[-1]["type"] == "http.response.body"
            and not self.sent[-1].get("more_body")
        )


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": "3 times 4"}], **fields}


@pytest.mark.parametrize("num_choices", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_while_waiting_aborts(stand: Stand, stream: bool, num_choices: int):
    stand.engine.gate = asyncio.Semaphore(0)
    client = Client(request(stream=stream, n=num_choices))
    task = asyncio.create_task(client.run(app_of(stand)))
    await wait_until(lambda: len(stand.engine.running) == num_choices, "the engine runs")
    assert stand.registry.num_held == 1
    client.gone.set()
    await task
    assert len(stand.engine.aborted) == num_choices
    assert not client.sent
    assert stand.metric("polymath_requests_total", specialist="math", outcome="aborted") == 1
    stand.assert_nothing_held()


async def test_leaving_in_the_stream_aborts(stand: Stand):
    stand.engine.gate = asyncio.Semaphore(2)
    client = Client(request(stream=True))
    task = asyncio.create_task(client.run(app_of(stand)))
    await wait_until(lambda: len(client.sent) == 4, "the start, the role and two words are sent")
    client.gone.set()
    await task
    assert len(stand.engine.aborted) == 1
    stand.assert_nothing_held()


async def test_a_complete_answer_is_not_a_disconnect(stand: Stand):
    for stream in (False, True):
        client = Client(request(stream=stream))
        await client.run(app_of(stand))
        assert client.is_complete
    assert stand.metric("polymath_requests_total", specialist="math", outcome="finished") == 2
    assert not stand.engine.aborted


async def test_cancelled_from_outside(stand: Stand):
    stand.engine.gate = asyncio.Semaphore(1)
    client = Client(request(stream=True))
    task = asyncio.create_task(client.run(app_of(stand)))
    await wait_until(lambda: len(client.sent) > 1, "the stream has begun")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stand.assert_nothing_held()


def app_of(stand: Stand) -> ASGIApp:
    transport: Any = stand.client._transport
    app: ASGIApp = transport.app
    return app


@dataclass(frozen=True)
class Attempt:
    """One request of a random history: how it is asked, where it breaks, when its client leaves."""

    model: str
    stream: bool
    num_choices: int
    num_words: int
    fault: type[Exception] | None
    fault_after: int
    leave_after_ticks: int | None
    leave_after_messages: int | None
    cancel_after_ticks: int | None


attempts = st.builds(
    Attempt,
    model=st.sampled_from(["auto", "math", "code", "base", "nobody"]),
    stream=st.booleans(),
    num_choices=st.integers(1, 3),
    num_words=st.integers(1, 4),
    fault=st.sampled_from([None, None, EngineDeadError, EngineOverloadedError, KeyError]),
    fault_after=st.integers(0, 4),
    leave_after_ticks=st.none() | st.integers(0, 40),
    leave_after_messages=st.none() | st.integers(1, 6),
    cancel_after_ticks=st.none() | st.integers(0, 40),
)


@given(history=st.lists(attempts, min_size=1, max_size=6))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_released_exactly_once_whatever_happens(history: list[Attempt]):
    asyncio.run(live_through(history))


async def live_through(history: list[Attempt]) -> None:
    registry, delegator = CountingRegistry({"math": "math", "code": "code"}), KeywordDelegator()
    engine = PerRequestEngine()
    lifecycle = Lifecycle(Settings(), lambda loaded: fake_services(loaded, engine, registry, delegator))
    app = create_app(lifecycle)
    async with app.router.lifespan_context(app):
        await wait_until(lambda: lifecycle.is_ready, "ready")
        engine.is_alive = True
        stand = Stand(None, lifecycle, engine, registry, delegator)  # type: ignore[arg-type]
        clients = await asyncio.gather(*(live(app, engine, attempt) for attempt in history))
        stand.assert_nothing_held()
    for attempt, client in zip(history, clients, strict=True):
        was_disturbed = (attempt.leave_after_ticks, attempt.leave_after_messages, attempt.cancel_after_ticks)
        assert client.is_complete or any(moment is not None for moment in was_disturbed), (
            "ended without an answer"
        )
    counted = [
        sample.value
        for metric in lifecycle.metrics.requests.collect()
        for sample in metric.samples
        if sample.name == "polymath_requests_total"
    ]
    assert sum(counted) <= len(history)  # one outcome each; none for those that left before they were read


async def live(app: ASGIApp, engine: "PerRequestEngine", attempt: Attempt) -> Client:
    client = Client(
        request(model=attempt.model, stream=attempt.stream, n=attempt.num_choices, seed=engine.plan(attempt)),
        leave_after_messages=attempt.leave_after_messages,
    )
    task = asyncio.create_task(client.run(app))
    for tick in range(60):
        if tick == attempt.leave_after_ticks:
            client.gone.set()
        if tick == attempt.cancel_after_ticks:
            task.cancel()
        await asyncio.sleep(0.0002 if tick % 10 == 0 else 0)
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is not None:
        raise AssertionError("an exception reached the server") from task.exception()
    return client


class PerRequestEngine(ScriptedEngine):
    """A scripted engine whose script each request brings along: the seed says which attempt it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts: list[Attempt] = []

    def plan(self, attempt: Attempt) -> int:
        self._attempts.append(attempt)
        return (len(self._attempts) - 1) * 8

    async def generate(self, request_id: str, prompt_ids: Any, params: Any, adapter: Any):
        attempt = self._attempts[params.seed // 8]
        script = ScriptedEngine(
            words=["word "] * attempt.num_words,
            fault=attempt.fault("scripted") if attempt.fault else None,
            fault_after=attempt.fault_after,
        )
        self.running.add(request_id)
        try:
            async for output in script.generate(request_id, prompt_ids, params, adapter):
                yield output
        finally:
            self.running.discard(request_id)
