"""Loading, ready, draining, failed: when requests are let in and when the process may go."""

import asyncio
import threading
from typing import Any, cast

import pytest

from server.errors import UnavailableError
from server.lifecycle import Lifecycle, State
from server.services import Services
from server.settings import Settings
from tests.server.conftest import fake_services, wait_until
from tests.server.fakes import CountingRegistry, KeywordDelegator, ScriptedEngine


def services_with(settings: Settings, engine: ScriptedEngine) -> Services:
    return fake_services(settings, engine, CountingRegistry({}), KeywordDelegator())


async def test_from_loading_to_ready():
    engine, may_load, ready = ScriptedEngine(), threading.Event(), []

    def load(settings: Settings) -> Services:
        assert may_load.wait(5)
        return services_with(settings, engine)

    lifecycle = Lifecycle(Settings(), load, on_ready=ready.append)
    lifecycle.start()
    await asyncio.sleep(0.01)
    assert lifecycle.state is State.LOADING and not lifecycle.is_ready
    with pytest.raises(UnavailableError, match="loading"):
        lifecycle.require_services()
    may_load.set()
    await wait_until(lambda: lifecycle.is_ready, "ready")
    assert engine.is_started and len(ready) == 1
    await lifecycle.close()
    assert engine.is_shut_down
    with pytest.raises(UnavailableError):
        lifecycle.require_services()


async def test_a_failed_load():
    failed: list[bool] = []

    def load(_: Settings) -> Services:
        raise ValueError("no weights")

    lifecycle = Lifecycle(Settings(), load, on_failed=lambda: failed.append(True))
    lifecycle.start()
    await wait_until(lambda: bool(failed), "failed")
    assert lifecycle.state is State.FAILED
    assert str(lifecycle.failure) == "no weights"
    await lifecycle.close()
    assert lifecycle.state is State.FAILED


async def test_closing_does_not_wait_for_a_load():
    may_load = threading.Event()

    def load(settings: Settings) -> Services:
        may_load.wait(5)
        return services_with(settings, ScriptedEngine())

    lifecycle = Lifecycle(Settings(), load)
    lifecycle.start()
    await asyncio.sleep(0.01)
    assert lifecycle.is_loading
    await asyncio.wait_for(lifecycle.close(), 1)
    may_load.set()
    await wait_until(lambda: not lifecycle.is_loading, "the loader has ended")
    assert lifecycle.services is None


async def ready_lifecycle(engine: ScriptedEngine, **settings: Any) -> Lifecycle:
    lifecycle = Lifecycle(Settings(**settings), lambda loaded: services_with(loaded, engine))
    lifecycle.start()
    await wait_until(lambda: lifecycle.is_ready, "ready")
    return lifecycle


async def test_draining_waits_for_what_runs_and_lets_nothing_in():
    lifecycle = await ready_lifecycle(ScriptedEngine(), drain_seconds=5)
    with lifecycle.request():
        draining = asyncio.create_task(lifecycle.drain())
        await asyncio.sleep(0.01)
        assert not draining.done() and not lifecycle.is_ready
        with pytest.raises(UnavailableError, match="draining"), lifecycle.request():
            raise AssertionError("let in")
    await asyncio.wait_for(draining, 1)
    await lifecycle.close()


async def test_draining_has_a_deadline():
    lifecycle = await ready_lifecycle(ScriptedEngine(), drain_seconds=0.02)
    with lifecycle.request():
        await asyncio.wait_for(lifecycle.drain(), 1)
        assert lifecycle.num_requests == 1
    await lifecycle.close()


async def test_a_dead_engine_is_not_ready():
    engine = ScriptedEngine()
    lifecycle = await ready_lifecycle(engine)
    engine.is_alive = False
    assert not lifecycle.is_ready
    with pytest.raises(UnavailableError, match="engine has stopped"):
        lifecycle.require_services()
    await lifecycle.close()
    assert cast(Any, engine).is_shut_down
