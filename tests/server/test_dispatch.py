"""Who answers, and that a specialist is held for exactly as long as its request lives."""

import asyncio
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.decision import RoutingDecision, RoutingOptions, RoutingReason
from server.dispatch import Dispatcher, Messages
from server.errors import ModelNotFoundError, SpecialistUnavailableError
from specialists.adapters.errors import AdapterError
from tests.server.fakes import CountingRegistry, FakeSpecialist, KeywordDelegator

MATH = [{"role": "user", "content": "3 times 4"}]
SPANISH = [{"role": "user", "content": "hola"}]


@pytest.fixture
def registry() -> CountingRegistry:
    return CountingRegistry({"math": "math", "loner": None, "zeta": "math"})


@pytest.fixture
def dispatcher(registry: CountingRegistry) -> Dispatcher[FakeSpecialist]:
    return Dispatcher(KeywordDelegator(), registry, {"the-base"})


async def test_resolve_holds_nothing(dispatcher: Dispatcher[FakeSpecialist], registry: CountingRegistry):
    route = await dispatcher.resolve("auto", MATH)
    assert (route.specialist, route.decision.reason) == ("math", RoutingReason.CONFIDENT)
    assert registry.num_acquired == 0


async def test_of_several_specialists_the_first_by_name(
    dispatcher: Dispatcher[FakeSpecialist], registry: CountingRegistry
):
    del registry.entries["math"]
    assert (await dispatcher.resolve("auto", MATH)).specialist == "zeta"


async def test_no_specialist(dispatcher: Dispatcher[FakeSpecialist]):
    route = await dispatcher.resolve("auto", SPANISH)
    assert (route.specialist, route.generation) == ("base", 0)
    assert route.decision.reason is RoutingReason.NO_SPECIALIST
    assert route.decision.intent == "spanish"  # the classifier's guess is told all the same


async def test_requested(dispatcher: Dispatcher[FakeSpecialist]):
    for model, specialist, intent in [
        ("math", "math", "math"),
        ("loner", "loner", "none"),
        ("base", "base", "general"),
        ("the-base", "base", "general"),
    ]:
        route = await dispatcher.resolve(model, SPANISH)
        assert (route.specialist, route.decision.intent) == (specialist, intent)
        assert (route.decision.reason, route.decision.scores) == (RoutingReason.REQUESTED, {})


@pytest.mark.parametrize("model", ["nobody", "", "BASE", "math/..", "auto "])
async def test_unknown_is_never_the_base(dispatcher: Dispatcher[FakeSpecialist], model: str):
    with pytest.raises(ModelNotFoundError) as caught:
        await dispatcher.resolve(model, MATH)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


async def test_admit_holds_and_releases(dispatcher: Dispatcher[FakeSpecialist], registry: CountingRegistry):
    async with dispatcher.admit("auto", MATH) as route:
        assert (route.specialist, route.generation) == ("math", 1)
        assert registry.num_held == 1
    with pytest.raises(KeyError):
        async with dispatcher.admit("loner", MATH):
            raise KeyError
    assert (registry.num_held, registry.num_acquired) == (0, 2)


async def test_unloaded_between_the_look_and_the_hold(registry: CountingRegistry):
    class Vanishing(CountingRegistry):
        def acquire(self, name: str) -> FakeSpecialist:
            raise KeyError(name)

    dispatcher = Dispatcher(KeywordDelegator(), Vanishing({"math": "math"}))
    async with dispatcher.admit("auto", MATH) as route:
        assert (route.specialist, route.decision.reason) == ("base", RoutingReason.NO_SPECIALIST)
    with pytest.raises(ModelNotFoundError):
        async with dispatcher.admit("math", MATH):
            raise AssertionError("let in")


async def test_the_event_loop_goes_on_while_the_delegator_reads(registry: CountingRegistry):
    entered, may_go = threading.Event(), threading.Event()

    class Slow(KeywordDelegator):
        def route(self, messages: Messages, options: RoutingOptions) -> RoutingDecision:
            entered.set()
            assert may_go.wait(5)
            return super().route(messages, options)

    task = asyncio.create_task(Dispatcher(Slow(), registry).resolve("auto", MATH))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    may_go.set()  # reached only because the loop was free
    assert (await task).specialist == "math"


async def test_what_is_not_routable_answers_to_its_name_only(
    dispatcher: Dispatcher[FakeSpecialist], registry: CountingRegistry
):
    registry.unroutable.add("math")
    assert (await dispatcher.resolve("auto", MATH)).specialist == "zeta"
    registry.unroutable.add("zeta")
    route = await dispatcher.resolve("auto", MATH)
    assert (route.specialist, route.decision.reason) == ("base", RoutingReason.NO_SPECIALIST)
    assert (await dispatcher.resolve("math", MATH)).specialist == "math"


def evict(registry: CountingRegistry, name: str) -> None:
    registry.entries[name] = replace(registry.entries[name], is_resident=False)


async def test_several_requests_for_an_evicted_specialist_wait_for_one_return(
    dispatcher: Dispatcher[FakeSpecialist], registry: CountingRegistry
):
    evict(registry, "math")
    returned: list[str] = []
    may_go = threading.Event()

    def bring_back(specialist: FakeSpecialist) -> None:
        assert may_go.wait(5)
        returned.append(specialist.name)

    registry.on_return = bring_back

    async def use() -> str:
        async with dispatcher.admit("math", MATH) as route:
            assert returned == ["math"]
            return route.specialist

    tasks = [asyncio.create_task(use()) for _ in range(5)]
    while registry.held["math"] < 5:
        await asyncio.sleep(0)
    async with dispatcher.admit("loner", MATH) as route:  # nobody else waits
        assert route.specialist == "loner"
    tasks[0].cancel()
    await asyncio.wait({tasks[0]})
    assert registry.held["math"] == 4
    may_go.set()
    assert await asyncio.gather(*tasks[1:]) == ["math"] * 4
    assert registry.num_held == 0


async def test_a_specialist_that_cannot_come_back_is_an_error_and_not_the_base(
    dispatcher: Dispatcher[FakeSpecialist], registry: CountingRegistry
):
    evict(registry, "math")

    def fail(specialist: FakeSpecialist) -> None:
        raise AdapterError("/a/path/of/ours has changed", code="content_changed")

    registry.on_return = fail
    for model in ("math", "auto"):
        with pytest.raises(SpecialistUnavailableError) as caught:
            async with dispatcher.admit(model, MATH):
                raise AssertionError("let in")
        assert (caught.value.status, caught.value.code) == (503, "specialist_unavailable")
        assert "content_changed" in caught.value.message and "/a/path" not in caught.value.message
    assert registry.num_held == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["auto", "math", "loner", "nobody"]), st.integers(0, 6), st.booleans())
    )
)
def test_cancelled_anywhere_nothing_stays_held(history: list[tuple[str, int, bool]]):
    async def live() -> None:
        registry = CountingRegistry({"math": "math", "loner": None})
        evict(registry, "loner")
        dispatcher = Dispatcher(KeywordDelegator(), registry)

        async def use(model: str, fails: bool) -> None:
            async with dispatcher.admit(model, MATH):
                await asyncio.sleep(0)
                if fails:
                    raise ValueError
                await asyncio.sleep(0)

        async def use_and_cancel(model: str, ticks: int, fails: bool) -> None:
            task = asyncio.create_task(use(model, fails))
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                assert isinstance(task.exception(), ValueError | ModelNotFoundError | None)

        await asyncio.gather(*(use_and_cancel(*step) for step in history))
        assert registry.num_held == 0
        dispatcher.close()

    asyncio.run(live())
