"""An app over stand-ins, for bad input and faults; `tiny.py` makes the real ones."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest

from server.app import create_app
from server.dispatch import Dispatcher
from server.lifecycle import Lifecycle
from server.services import Services
from server.settings import Settings
from tests.server.fakes import CountingRegistry, FakeRoster, FakeTokenizer, KeywordDelegator, ScriptedEngine


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's POLYMATH_ variables must not decide how a test ends."""
    import os

    for name in list(os.environ):
        if name.startswith("POLYMATH_"):
            monkeypatch.delenv(name)


@dataclass
class Stand:
    """A running app with the handles of what is inside."""

    client: httpx.AsyncClient
    lifecycle: Lifecycle
    engine: ScriptedEngine
    registry: CountingRegistry
    delegator: KeywordDelegator

    async def chat(self, **fields: Any) -> httpx.Response:
        body = {"model": "auto", "messages": [{"role": "user", "content": "3 times 4"}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    def metric(self, name: str, **labels: str) -> float:
        return self.lifecycle.metrics.registry.get_sample_value(name, labels) or 0.0

    def assert_nothing_held(self) -> None:
        assert self.registry.num_held == 0
        assert not self.engine.running
        assert self.lifecycle.num_requests == 0
        assert self.metric("polymath_requests_running") == 0
        assert self.metric("polymath_requests_waiting") == 0


def fake_services(
    settings: Settings, engine: ScriptedEngine, registry: CountingRegistry, delegator: KeywordDelegator
) -> Services:
    return Services(
        settings=settings,
        base_id="tiny-base",
        fingerprint="fp_test",
        created=1_700_000_000,
        tokenizer=cast(Any, FakeTokenizer()),
        registry=cast(Any, registry),
        engine=cast(Any, engine),
        dispatcher=cast(Any, Dispatcher(delegator, registry, {"tiny-base"})),
        roster=cast(Any, FakeRoster()),
    )


async def wait_until(condition: Callable[[], bool], what: str) -> None:
    import asyncio

    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"waited 30 s in vain until {what}")


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
async def stand(settings: Settings) -> AsyncIterator[Stand]:
    engine, delegator = ScriptedEngine(), KeywordDelegator()
    registry = CountingRegistry({"math": "math", "code": "code", "loner": None})
    lifecycle = Lifecycle(settings, lambda loaded: fake_services(loaded, engine, registry, delegator))
    app = create_app(lifecycle)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await wait_until(lambda: lifecycle.is_ready, "ready")
        yield Stand(client, lifecycle, engine, registry, delegator)
    assert engine.is_shut_down
