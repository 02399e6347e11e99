"""Adapters come, change and go under load, and nobody notices who should not.

Random histories of the registry against a plain model of it; then a running engine, whose every stream must get exactly
the tokens it would have got alone on the generation it started with, and which must end up as empty as it began.
"""

import asyncio
import gc
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from specialists.adapters.errors import AdapterError
from specialists.adapters.limits import AdapterLimits
from specialists.adapters.loaded import LoadedAdapter
from specialists.adapters.registry import AdapterRegistry
from specialists.adapters.trial import try_adapter
from specialists.engine.async_engine import AsyncEngine
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from specialists.manifest import SpecialistManifest
from tests.specialists.adapters.test_fuzz import BASE
from tests.specialists.adapters.tiny import write_adapter

NAMES = ("a", "b", "c", "d", "e")
CONTENTS = 6
PROMPTS = [list(range(start, start + length)) for start, length in ((20, 12), (40, 3), (60, 30), (20, 14))]
GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)


class Recorder:
    """An engine that only listens; what it is told twice, or too early, fails the test."""

    def __init__(self) -> None:
        self.forgotten: set[int] = set()
        self.held: Counter[int] = Counter()

    def active_adapters(self) -> list[int]:
        return []

    def vacate(self, generation: int) -> None:
        assert not self.held[generation] and generation not in self.forgotten

    def forget(self, generation: int) -> None:
        assert not self.held[generation] and generation not in self.forgotten
        self.forgotten.add(generation)


class RegistryLife(RuleBasedStateMachine):
    """Loads, replaces, unloads, pins, requests, in any order and with room for two."""

    folders: list[Path]

    def __init__(self) -> None:
        super().__init__()
        self.registry = AdapterRegistry(
            BASE, dtype=torch.float32, limits=AdapterLimits(max_resident=2, room_seconds=0)
        )
        self.engine = Recorder()
        self.registry.attach(self.engine)
        self.current: dict[str, LoadedAdapter] = {}
        self.requests: list[LoadedAdapter] = []
        self.generations: list[int] = []

    @rule(
        name=st.sampled_from(NAMES[:3]),
        content=st.integers(0, 2),
        replace=st.booleans(),
        expected=st.none() | st.integers(0, 6),
        pinned=st.none() | st.booleans(),
        fails=st.booleans(),
    )
    def load(
        self, name: str, content: int, replace: bool, expected: int | None, pinned: bool | None, fails: bool
    ):
        def trial(adapter: LoadedAdapter) -> None:
            self.generations.append(adapter.generation)
            if fails:
                raise AdapterError("refused", code="no_effect")

        old = self.current.get(name)
        try:
            adapter = self.registry.load(
                self.folders[content],
                manifest=SpecialistManifest(name=name),
                replace=replace,
                expected_generation=expected,
                pinned=pinned,
                trial=trial,
            )
        except AdapterError as error:
            allowed = {"no_effect"} if fails else set()
            allowed |= {"name_taken"} if old and not replace else set()
            allowed |= {"generation_mismatch"} if expected is not None else set()
            allowed |= {"no_room"} if pinned is not False else set()
            assert error.code in allowed
        else:
            assert not fails and (old is None or replace)
            assert expected in (None, 0 if old is None else old.generation)
            self.current[name] = adapter

    @rule(name=st.sampled_from(NAMES[:3]))
    def unload(self, name: str):
        if name not in self.current:
            with pytest.raises(KeyError):
                self.registry.unload(name)
            return
        adapter = self.registry.unload(name)
        assert adapter is self.current.pop(name)
        assert self.registry.wait_idle(adapter, 0) == (adapter not in self.requests)

    @rule(name=st.sampled_from(NAMES[:3]))
    def request(self, name: str):
        if name not in self.current:
            with pytest.raises(KeyError):
                self.registry.acquire(name)
            return
        adapter = self.registry.acquire(name)
        assert adapter is self.current[name]
        try:
            self.registry.ensure_resident(adapter)
        except AdapterError as error:
            assert error.code == "no_room"
            self.registry.release(adapter)
        else:
            self.requests.append(adapter)
            self.engine.held[adapter.generation] += 1

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def end(self, data: st.DataObject):
        adapter = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        self.engine.held[adapter.generation] -= 1
        self.registry.release(adapter)

    @rule(name=st.sampled_from(NAMES[:3]), pinned=st.booleans(), routable=st.booleans())
    def change(self, name: str, pinned: bool, routable: bool):
        if name not in self.current:
            return
        assert self.registry.set_routable(name, routable).routable == routable
        try:
            assert self.registry.set_pinned(name, pinned).pinned == pinned
        except AdapterError as error:
            assert error.code == "no_room" and pinned

    @invariant()
    def adds_up(self):
        self.registry.check_integrity()
        assert len(set(self.generations)) == len(self.generations)
        assert self.registry.names() == sorted(self.current)
        statuses = {status.generation: status for status in self.registry.statuses()}
        alive = {adapter.generation for adapter in [*self.current.values(), *self.requests]}
        assert set(statuses) == alive and not alive & self.engine.forgotten
        in_flight = Counter(adapter.generation for adapter in self.requests)
        assert all(status.in_flight == in_flight[g] for g, status in statuses.items())
        for adapter in self.requests:
            assert adapter.weights is not None
        assert sum(status.state != "registered" for status in statuses.values()) <= 2


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("smallest")
    RegistryLife.folders = [write_adapter(root / str(seed), BASE, seed=seed) for seed in range(3)]


@pytest.mark.usefixtures("smallest")
class TestRegistryLife(RegistryLife.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


class Load:
    """Streams and an operator on one engine, until the operator has done enough."""

    def __init__(
        self, engine: AsyncEngine, registry: AdapterRegistry, folders: list[Path], expected: "Expected"
    ) -> None:
        self.engine = engine
        self.registry = registry
        self.folders = folders
        self.expected = expected
        self.threads = ThreadPoolExecutor(8)
        self.outcomes: Counter[str] = Counter()
        self.num_streams = 0
        self.is_over = False

    async def run(self, num_clients: int, num_operations: int) -> None:
        clients = [asyncio.create_task(self._client(random.Random(seed))) for seed in range(num_clients)]
        operators = [self._operator(random.Random(-seed), num_operations // 2) for seed in (1, 2)]
        try:
            await asyncio.gather(*operators)
        finally:
            self.is_over = True
            await asyncio.gather(*clients)
            self.threads.shutdown()

    async def in_thread(self, action: partial[object]) -> object:
        return await asyncio.get_running_loop().run_in_executor(self.threads, action)

    async def _client(self, chance: random.Random) -> None:
        while not self.is_over:
            try:
                adapter = self.registry.acquire(chance.choice(NAMES))
            except KeyError:
                await asyncio.sleep(0.001)
                continue
            try:
                if not adapter.is_resident:
                    await self.in_thread(partial(self.registry.ensure_resident, adapter))
                await self._stream(adapter, chance.randrange(len(PROMPTS)), chance.random() < 0.2)
            except AdapterError as error:
                assert error.code == "no_room"  # all the room may be pinned
                self.outcomes["request: no_room"] += 1
            finally:
                self.registry.release(adapter)

    async def _stream(self, adapter: LoadedAdapter, prompt: int, leaves_early: bool) -> None:
        self.num_streams += 1
        found: list[int] = []
        stream = self.engine.generate(f"s{self.num_streams}", PROMPTS[prompt], GREEDY, adapter)
        async for output in stream:
            assert output.error is None
            found += output.token_ids
            if leaves_early and len(found) >= 3:
                break
        await stream.aclose()
        whole = self.expected.tokens(adapter.sha256, prompt)
        assert tuple(found) == whole[: len(found)] and (leaves_early or len(found) == len(whole))

    async def _operator(self, chance: random.Random, num_operations: int) -> None:
        for _ in range(num_operations):
            name = chance.choice(NAMES)
            load = partial(
                self.registry.load,
                chance.choice(self.folders),
                manifest=SpecialistManifest(name=name),
                trial=partial(try_adapter, self.engine),
            )
            action, operation = chance.choice(
                [
                    ("load", load),
                    ("replace", partial(load, replace=True)),
                    ("replace", partial(load, replace=True, pinned=False)),
                    ("pin", partial(self.registry.set_pinned, name, True)),
                    ("unpin", partial(self.registry.set_pinned, name, False)),
                    ("unload", partial(self._unload, name)),
                ]
            )
            try:
                await self.in_thread(operation)
            except KeyError:
                self.outcomes[f"{action}: unknown"] += 1
            except AdapterError as error:
                self.outcomes[f"{action}: {error.code}"] += 1
            else:
                self.outcomes[action] += 1

    def _unload(self, name: str) -> None:
        assert self.registry.wait_idle(self.registry.unload(name), 60)


class Expected:
    """What an adapter's content says alone, on an engine of its own."""

    def __init__(self, llm: LLMEngine, base: QwenConfig, folders: list[Path]) -> None:
        self._llm = llm
        registry = AdapterRegistry(base, dtype=torch.float32)
        loaded = [
            registry.load(folder, manifest=SpecialistManifest(name=f"content-{index}"))
            for index, folder in enumerate(folders)
        ]
        self._adapters = {adapter.sha256: adapter for adapter in loaded}
        self._known: dict[tuple[str, int], tuple[int, ...]] = {}

    def tokens(self, sha256: str, prompt: int) -> tuple[int, ...]:
        key = (sha256, prompt)
        if key not in self._known:
            (answer,) = self._llm.generate([PROMPTS[prompt]], GREEDY, self._adapters[sha256])
            self._known[key] = answer.token_ids
        return self._known[key]


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("num_clients", "num_operations"), [(6, 80), pytest.param(16, 500, marks=pytest.mark.slow)]
)
def test_streams_get_the_tokens_of_their_generation_whatever_happens_to_the_name(
    tiny_qwen2: Path, tiny_config: EngineConfig, tmp_path: Path, num_clients: int, num_operations: int
):
    base = read_qwen_config(tiny_qwen2)
    folders = [write_adapter(tmp_path / str(seed), base, seed=seed) for seed in range(CONTENTS)]
    expected = Expected(LLMEngine(tiny_qwen2, tiny_config), base, folders)
    for folder in range(CONTENTS):
        for prompt in range(len(PROMPTS)):
            expected.tokens(list(expected._adapters)[folder], prompt)
    llm = LLMEngine(tiny_qwen2, tiny_config)
    engine = AsyncEngine(llm)
    # Fewer in memory than names, more names than slots with requests in them: everything has to give way at times.
    registry = AdapterRegistry(base, dtype=torch.float32, limits=AdapterLimits(max_resident=4))
    registry.attach(engine)
    engine.start()
    num_files = num_open_files()
    load = Load(engine, registry, folders, expected)
    try:
        asyncio.run(load.run(num_clients, num_operations))
        assert load.num_streams > num_clients
        for name in registry.names():
            assert registry.wait_idle(registry.unload(name), 0)
        asyncio.run(_one_request(engine))  # the engine has heard all there was to forget
    finally:
        engine.shutdown()
    assert engine.error is None
    assert registry.statuses() == [] and registry.num_resident_bytes == 0
    registry.check_integrity()
    llm.scheduler.check_integrity()
    assert llm.active_adapters() == [] and llm.scheduler.blocks.known_adapters() <= {0}
    assert llm.scheduler.blocks.num_free == tiny_config.num_blocks
    gc.collect()
    assert num_open_files() == num_files
    for action in ("load", "replace", "pin", "unpin", "unload"):
        assert load.outcomes[action] > 0, load.outcomes


async def _one_request(engine: AsyncEngine) -> None:
    async for _ in engine.generate("last", PROMPTS[0], GREEDY):
        pass
