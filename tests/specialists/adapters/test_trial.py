"""A load is tried on the running engine: an adapter that does nothing, or nonsense, is not let to serve."""

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from specialists.adapters.errors import AdapterError
from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.adapters.trial import try_adapter
from specialists.engine.async_engine import AsyncEngine, EngineDeadError
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.output import RequestOutput
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from tests.specialists.adapters.tiny import change_config, write_adapter

PROMPT = list(range(20, 32))
GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)


@pytest.fixture(scope="module")
def base(tiny_qwen2: Path) -> QwenConfig:
    return read_qwen_config(tiny_qwen2)


@pytest.fixture
def engine(tiny_engine: LLMEngine) -> Iterator[AsyncEngine]:
    engine = AsyncEngine(tiny_engine)
    engine.start()
    yield engine
    engine.shutdown()
    assert engine.error is None
    tiny_engine.scheduler.check_integrity()


@pytest.fixture
def registry(engine: AsyncEngine, base: QwenConfig) -> AdapterRegistry:
    registry = AdapterRegistry(base, dtype=torch.float32)
    registry.attach(engine)
    return registry


async def tokens(engine: AsyncEngine, name: str, adapter: LoadedAdapter | None = None) -> list[int]:
    found: list[int] = []
    async for output in engine.generate(name, PROMPT, GREEDY, adapter):
        found += output.token_ids
    return found


def assert_gone(engine: AsyncEngine, registry: AdapterRegistry, llm: LLMEngine) -> None:
    asyncio.run(tokens(engine, "what comes after the engine was told to forget"))
    assert registry.names() == [] and registry.num_resident_bytes == 0
    assert llm.active_adapters() == [] and llm.scheduler.blocks.known_adapters() <= {0}


@pytest.mark.parametrize("targets", [("q_proj",), ("k_proj",), ("v_proj",), ("o_proj",), ("down_proj",)])
def test_what_has_an_effect_passes(
    engine: AsyncEngine,
    registry: AdapterRegistry,
    base: QwenConfig,
    tmp_path: Path,
    targets: tuple[str, ...],
):
    """On any one target: with a single token, q and k would seem to do nothing."""
    folder = write_adapter(tmp_path / "poet", base, targets=targets)
    assert registry.load(folder, trial=partial(try_adapter, engine)).name == "poet"


def test_one_that_is_too_weak_to_change_anything_is_refused(
    engine: AsyncEngine, registry: AdapterRegistry, base: QwenConfig, tmp_path: Path, tiny_engine: LLMEngine
):
    folder = write_adapter(tmp_path / "faint", base)
    change_config(folder, lora_alpha=1e-30)
    with pytest.raises(AdapterError, match="are those of the base") as refusal:
        registry.load(folder, trial=partial(try_adapter, engine))
    assert refusal.value.code == "no_effect"
    assert_gone(engine, registry, tiny_engine)


def test_one_that_the_engine_does_not_apply_is_refused(
    engine: AsyncEngine,
    registry: AdapterRegistry,
    base: QwenConfig,
    tmp_path: Path,
    tiny_engine: LLMEngine,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(tiny_engine.runner._lora, "for_step", lambda output: None)
    with pytest.raises(AdapterError) as refusal:
        registry.load(write_adapter(tmp_path / "poet", base), trial=partial(try_adapter, engine))
    assert refusal.value.code == "no_effect"


def test_one_that_overflows_is_refused(
    engine: AsyncEngine, registry: AdapterRegistry, base: QwenConfig, tmp_path: Path, tiny_engine: LLMEngine
):
    """Finite in the file, and no longer when it is used."""
    folder = write_adapter(tmp_path / "wild", base, scale=1e30)
    with pytest.raises(AdapterError, match="not finite") as refusal:
        registry.load(folder, trial=partial(try_adapter, engine))
    assert refusal.value.code == "non_finite"
    assert_gone(engine, registry, tiny_engine)


def test_streams_go_on_and_say_what_they_would(
    engine: AsyncEngine, registry: AdapterRegistry, base: QwenConfig, tmp_path: Path
):
    folder = write_adapter(tmp_path / "poet", base)
    trial = partial(try_adapter, engine)

    async def both() -> None:
        alone = await tokens(engine, "alone")
        streams = [asyncio.create_task(tokens(engine, str(index))) for index in range(6)]
        adapter = await asyncio.to_thread(registry.load, folder, trial=trial)
        assert [await stream for stream in streams] == [alone] * 6
        assert await tokens(engine, "adapted", adapter) != alone

    asyncio.run(both())


def test_a_busy_engine_is_waited_for_only_so_long(
    tiny_qwen2: Path, tiny_config: EngineConfig, base: QwenConfig, tmp_path: Path
):
    llm = LLMEngine(tiny_qwen2, tiny_config)

    def stuck() -> list[RequestOutput]:
        llm.abort("trial")
        return []

    llm.step = stuck  # type: ignore[method-assign]
    engine = AsyncEngine(llm)
    engine.start()
    registry = AdapterRegistry(base, dtype=torch.float32)
    folder = write_adapter(tmp_path / "poet", base)
    try:
        with pytest.raises(AdapterError, match=r"no time to try it within 0.05 s") as refusal:
            registry.load(folder, trial=partial(try_adapter, engine, timeout=0.05))
        assert refusal.value.code == "trial_failed"
    finally:
        engine.shutdown()


def test_without_an_engine_there_is_no_trial_and_no_adapter(
    tiny_engine: LLMEngine, base: QwenConfig, tmp_path: Path
):
    registry = AdapterRegistry(base, dtype=torch.float32)
    folder = write_adapter(tmp_path / "poet", base)
    with pytest.raises(EngineDeadError):
        registry.load(folder, trial=partial(try_adapter, AsyncEngine(tiny_engine)))
    assert registry.names() == []


def test_alpha_may_be_as_small_as_it_likes_if_it_shows(
    engine: AsyncEngine, registry: AdapterRegistry, base: QwenConfig, tmp_path: Path
):
    folder = write_adapter(tmp_path / "gentle", base)
    change_config(folder, lora_alpha=1e-3)
    assert json.loads((folder / "adapter_config.json").read_text())["lora_alpha"] == 1e-3
    assert registry.load(folder, trial=partial(try_adapter, engine)).name == "gentle"
