"""Alive, ready, draining, dead, and the metrics page."""

import threading

import httpx

from server.app import create_app
from server.lifecycle import Lifecycle
from server.services import Services
from server.settings import Settings
from tests.server.api.wire import error_of
from tests.server.conftest import Stand, fake_services, wait_until
from tests.server.fakes import CountingRegistry, KeywordDelegator, ScriptedEngine

MESSAGES = [{"role": "user", "content": "3 times 4"}]


async def test_health_and_ready(stand: Stand):
    assert (await stand.client.get("/health")).json() == {"status": "ok"}
    ready = await stand.client.get("/ready")
    assert ready.json() == {"status": "ready", "specialists": ["code", "loner", "math"], "refused": []}


async def test_while_loading():
    may_load = threading.Event()

    def load(settings: Settings) -> Services:
        may_load.wait(5)
        return fake_services(settings, ScriptedEngine(), CountingRegistry({}), KeywordDelegator())

    lifecycle = Lifecycle(Settings(), load)
    app = create_app(lifecycle)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        assert (await client.get("/health")).status_code == 200
        for response in (
            await client.get("/ready"),
            await client.get("/v1/models"),
            await client.post("/v1/route", json={"messages": MESSAGES}),
            await client.post("/v1/chat/completions", json={"model": "auto", "messages": MESSAGES}),
        ):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "5"
            assert error_of(response)["type"] == "server_error"
        assert (await client.get("/metrics")).status_code == 200
        may_load.set()
        await wait_until(lambda: lifecycle.is_ready, "ready")
        assert (await client.get("/ready")).status_code == 200


async def test_a_dead_engine(stand: Stand):
    stand.engine.is_alive = False
    assert (await stand.client.get("/health")).status_code == 503
    assert (await stand.client.get("/ready")).status_code == 503
    assert (await stand.chat()).status_code == 503
    stand.engine.is_alive = True


async def test_draining(stand: Stand):
    await stand.lifecycle.drain()
    assert (await stand.client.get("/health")).status_code == 200
    assert (await stand.client.get("/ready")).status_code == 503
    response = await stand.chat()
    assert response.status_code == 503
    assert "draining" in error_of(response)["message"]


async def test_metrics_page(stand: Stand):
    await stand.chat()
    page = await stand.client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert 'polymath_requests_total{outcome="finished",specialist="math"} 1.0' in page.text
