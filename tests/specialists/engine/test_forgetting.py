"""An adapter that is gone leaves nothing in the engine: no slot, no weights, no prefix, no request."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from specialists.adapters.limits import AdapterLimits
from specialists.adapters.lora import AdapterInUse
from specialists.adapters.native_lora import AdapterTable
from specialists.adapters.registry import AdapterRegistry
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.output import FinishReason
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from tests.specialists.adapters.tiny import write_adapter
from tests.specialists.engine.compiled import kernels_or_skip

PROMPT = list(range(20, 32))
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture(params=["torch", "native"])
def engine(request: pytest.FixtureRequest, tiny_qwen2: Path, tiny_config: EngineConfig) -> LLMEngine:
    if request.param == "torch":
        return LLMEngine(tiny_qwen2, tiny_config)
    kernels_or_skip()
    return LLMEngine(tiny_qwen2, replace(tiny_config, dtype="bfloat16", kernels="native"))


@pytest.fixture
def registry(engine: LLMEngine, tiny_qwen2: Path, tmp_path: Path) -> AdapterRegistry:
    base = read_qwen_config(tiny_qwen2)
    registry = AdapterRegistry(
        base,
        dtype=getattr(torch, engine.config.dtype),
        prepare=engine.runner.prepare,
        limits=AdapterLimits(max_resident=3),
    )
    registry.attach(engine)
    for seed, name in enumerate("abc"):
        registry.load(write_adapter(tmp_path / name, base, seed=seed))
    return registry


def tensor_of(weights: object) -> torch.Tensor:
    return weights.memory[0] if isinstance(weights, AdapterTable) else weights.pairs[0, "q_proj"].a  # type: ignore[attr-defined]


def num_cached(engine: LLMEngine, adapter: AdapterInUse) -> int:
    engine.add_request("again", [*PROMPT, 5], GREEDY, adapter)
    outputs = []
    while engine.has_unfinished:
        outputs += engine.step()
    return outputs[-1].num_cached_tokens


def test_unloading_frees_slot_weights_and_prefixes(engine: LLMEngine, registry: AdapterRegistry):
    adapters = [registry.get(name) for name in "abc"]
    before = engine.generate([PROMPT] * 3, GREEDY, adapters)
    assert sorted(engine.active_adapters()) == [1, 2, 3]
    tensors = [weakref.ref(tensor_of(adapter.weights)) for adapter in adapters]
    registry.unload("b")
    gc.collect()
    assert [tensor() is None for tensor in tensors] == [False, True, False]
    assert sorted(engine.active_adapters()) == [1, 3]
    assert engine.scheduler.blocks.known_adapters() == {1, 3}
    engine.scheduler.check_integrity()
    assert engine.generate([PROMPT] * 2, GREEDY, [adapters[0], adapters[2]]) == [before[0], before[2]]


def test_an_evicted_one_keeps_its_prefixes_and_says_the_same_when_it_is_back(
    engine: LLMEngine, registry: AdapterRegistry
):
    adapter = registry.get("a")
    before = engine.generate([PROMPT], GREEDY, adapter)
    kept = adapter.in_use()
    tensor = weakref.ref(tensor_of(adapter.weights))
    engine.vacate(adapter.generation)
    assert engine.active_adapters() == []
    assert num_cached(engine, kept) == 12
    engine.vacate(adapter.generation)
    assert engine.generate([PROMPT], GREEDY, adapter) == before
    del kept
    registry.unload("a")
    gc.collect()
    assert tensor() is None


def test_evicting_frees_the_slot_and_the_weights(
    engine: LLMEngine, registry: AdapterRegistry, tiny_qwen2: Path, tmp_path: Path
):
    adapters = [registry.get(name) for name in "abc"]
    before = engine.generate([PROMPT] * 3, GREEDY, adapters)
    stack = getattr(engine.runner._lora, "_stack", None)
    held = [weakref.ref(found) for found in (tensor_of(adapters[0].weights), stack) if found is not None]
    del stack
    for adapter in adapters[1:]:
        registry.acquire(adapter.name)
    registry.load(write_adapter(tmp_path / "d", read_qwen_config(tiny_qwen2), seed=9))
    gc.collect()
    assert not adapters[0].is_resident and sorted(engine.active_adapters()) == [2, 3]
    assert all(found() is None for found in held)
    registry.unload("d")
    registry.ensure_resident(registry.acquire("a"))
    assert engine.generate([PROMPT] * 3, GREEDY, adapters) == before


def test_reloaded_under_its_old_name_it_finds_nothing_of_the_old(
    engine: LLMEngine, registry: AdapterRegistry, tiny_qwen2: Path, tmp_path: Path
):
    old = registry.get("a")
    before = engine.generate([PROMPT], GREEDY, old)
    folder = write_adapter(tmp_path / "a", read_qwen_config(tiny_qwen2), seed=7)
    new = registry.load(folder, replace=True)
    assert engine.scheduler.blocks.known_adapters() == set()
    assert num_cached(engine, new.in_use()) == 0
    after = engine.generate([PROMPT], GREEDY, new)
    fresh = LLMEngine(tiny_qwen2, engine.config)
    assert after == fresh.generate([PROMPT], GREEDY, new) != before


def test_the_same_content_loaded_again_is_another_generation(
    engine: LLMEngine, registry: AdapterRegistry, tmp_path: Path
):
    """Even then nothing is shared: the cache knows generations, no contents."""
    before = engine.generate([PROMPT], GREEDY, registry.get("a"))
    again = registry.load(tmp_path / "a", replace=True)
    assert num_cached(engine, again.in_use()) == 0
    assert engine.generate([PROMPT], GREEDY, again) == before


def test_a_vacated_slot_serves_the_next_adapter(engine: LLMEngine, registry: AdapterRegistry):
    alone = [engine.generate([PROMPT], GREEDY, registry.get(name))[0] for name in "abc"]
    for generation in (1, 2, 3):
        engine.vacate(generation)
    assert engine.generate([PROMPT] * 3, GREEDY, [registry.get(name) for name in "cab"]) == [
        alone[2],
        alone[0],
        alone[1],
    ]


def test_ending_the_requests_of_an_adapter_spares_the_others(engine: LLMEngine, registry: AdapterRegistry):
    (alone,) = engine.generate([PROMPT], GREEDY, registry.get("b"))
    for index, name in enumerate("aabb"):
        engine.add_request(str(index), PROMPT, GREEDY, registry.get(name))
    engine.step()
    engine.step()
    ended = engine.end_requests(registry.get("a").generation, "it was unloaded")
    assert {(output.request_id, output.finish_reason, output.error) for output in ended} == {
        (name, FinishReason.ABORTED, "it was unloaded") for name in "01"
    }
    registry.unload("a")
    tokens: dict[str, list[int]] = {"2": [], "3": []}
    while engine.has_unfinished:
        for output in engine.step():
            tokens[output.request_id] += output.token_ids
    assert all(tuple(found) == alone.token_ids[-len(found) :] for found in tokens.values())
    engine.scheduler.check_integrity()
    assert engine.scheduler.blocks.num_free == engine.config.num_blocks


def test_an_adapter_in_use_cannot_be_forgotten(engine: LLMEngine, registry: AdapterRegistry):
    engine.add_request("r", PROMPT, GREEDY, registry.get("a"))
    engine.step()
    with pytest.raises(AssertionError, match="in use"):
        engine.vacate(1)
