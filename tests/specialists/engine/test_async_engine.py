"""The engine on its thread: streams, back-pressure, disconnects, and an end for every request."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from specialists.adapters.loaded import AdapterState, NotResidentError
from specialists.adapters.registry import AdapterRegistry
from specialists.engine.async_engine import AsyncEngine, EngineDeadError, EngineOverloadedError
from specialists.engine.llm_engine import LLMEngine, PromptTooLongError
from specialists.engine.output import FinishReason, RequestOutput
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from tests.specialists.adapters.tiny import write_adapter

PROMPT = list(range(20, 32))
GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
ENDLESS = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)


@pytest.fixture
def engine(tiny_engine: LLMEngine) -> Iterator[AsyncEngine]:
    engine = AsyncEngine(tiny_engine, max_requests=12)
    engine.start()
    yield engine
    engine.shutdown()
    tiny_engine.scheduler.check_integrity()


async def collect(engine: AsyncEngine, name: str, params: SamplingParams = GREEDY) -> list[RequestOutput]:
    return [output async for output in engine.generate(name, PROMPT, params)]


async def until_idle(engine: AsyncEngine, llm: LLMEngine) -> None:
    async with asyncio.timeout(120):
        while engine.num_requests or llm.has_unfinished:
            await asyncio.sleep(0.005)


async def test_streams_what_the_engine_says(engine: AsyncEngine, tiny_engine: LLMEngine, tiny_qwen2: Path):
    (expected,) = LLMEngine(tiny_qwen2, tiny_engine.config).generate([PROMPT], GREEDY)
    outputs = await asyncio.gather(*(collect(engine, str(i)) for i in range(10)))
    assert {"".join(output.text for output in items) for items in outputs} == {expected.text}
    assert all(items[-1].finish_reason is FinishReason.LENGTH for items in outputs)


async def test_closing_a_stream_aborts_its_request(engine: AsyncEngine, tiny_engine: LLMEngine):
    stream = engine.generate("r", PROMPT, ENDLESS)
    async for _ in stream:
        break
    await stream.aclose()
    await until_idle(engine, tiny_engine)
    assert tiny_engine.scheduler.blocks.num_free == tiny_engine.config.num_blocks


async def test_cancelling_a_reader_aborts_its_request(engine: AsyncEngine, tiny_engine: LLMEngine):
    tasks = [asyncio.create_task(collect(engine, str(i), ENDLESS)) for i in range(6)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until_idle(engine, tiny_engine)


async def test_one_more_than_allowed_is_refused_and_the_others_finish(engine: AsyncEngine):
    tasks = [asyncio.create_task(collect(engine, str(i), ENDLESS)) for i in range(12)]
    await asyncio.sleep(0)
    with pytest.raises(EngineOverloadedError, match="12 requests"):
        await collect(engine, "one more")
    outputs = await asyncio.gather(*tasks)
    assert all(items[-1].finish_reason is FinishReason.LENGTH for items in outputs)


async def test_bad_requests_are_refused_before_they_count(engine: AsyncEngine):
    with pytest.raises(PromptTooLongError):
        await anext(engine.generate("r", [30] * 300, GREEDY))
    task = asyncio.create_task(collect(engine, "same", ENDLESS))
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="already running"):
        await collect(engine, "same")
    task.cancel()
    assert engine.num_requests <= 1


async def test_a_probe_sees_the_logits_of_each_token_before_it_is_chosen(engine: AsyncEngine):
    seen: list[int] = []
    tokens: list[int] = []
    async for output in engine.generate(
        "r", PROMPT, GREEDY, probe=lambda row: seen.append(int(row.argmax()))
    ):
        tokens += output.token_ids
    assert seen == tokens and len(seen) == 16


async def test_requests_of_an_adapter_are_ended_with_a_reason_and_then_it_is_forgotten(
    engine: AsyncEngine, tiny_engine: LLMEngine, tiny_qwen2: Path, tmp_path: Path
):
    base = read_qwen_config(tiny_qwen2)
    registry = AdapterRegistry(base, dtype=torch.float32)
    registry.attach(engine)
    adapter = registry.load(write_adapter(tmp_path / "poet", base))
    assert registry.acquire("poet") is adapter
    stream = engine.generate("r", PROMPT, ENDLESS, adapter)
    await anext(stream)
    assert registry.status("poet").state is AdapterState.ACTIVE
    other = asyncio.create_task(collect(engine, "other", ENDLESS))
    registry.unload("poet")
    engine.end_requests(adapter.generation, "it was retired")
    outputs = [output async for output in stream]
    assert (outputs[-1].finish_reason, outputs[-1].error) == (FinishReason.ABORTED, "it was retired")
    registry.release(adapter)
    assert (await other)[-1].finish_reason is FinishReason.LENGTH
    assert list(engine.active_adapters()) == []
    assert tiny_engine.scheduler.blocks.known_adapters() == {0}


async def test_an_adapter_that_is_not_in_memory_is_refused_before_it_counts(
    engine: AsyncEngine, tiny_qwen2: Path, tmp_path: Path
):
    base = read_qwen_config(tiny_qwen2)
    registry = AdapterRegistry(base, dtype=torch.float32)
    adapter = registry.load(write_adapter(tmp_path / "poet", base))
    registry.unload("poet")
    with pytest.raises(NotResidentError, match="'poet'"):
        await anext(engine.generate("r", PROMPT, GREEDY, adapter))
    assert engine.num_requests == 0


async def test_shutdown_fails_what_is_still_running(tiny_engine: LLMEngine):
    engine = AsyncEngine(tiny_engine)
    engine.start()
    task = asyncio.create_task(collect(engine, "r", ENDLESS))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(engine.shutdown)
    assert (await task)[-1].error == "the engine was shut down"
    with pytest.raises(EngineDeadError, match="not running"):
        await collect(engine, "late")


async def test_an_error_that_ends_the_thread_reaches_every_client(tiny_engine: LLMEngine):
    engine = AsyncEngine(tiny_engine)
    engine.start()

    def broken() -> list[RequestOutput]:
        raise MemoryError("no memory")

    tiny_engine.step = broken  # type: ignore[method-assign]
    outputs = await collect(engine, "r")
    assert outputs[-1].error == "MemoryError: no memory"
    assert not engine.is_alive
    with pytest.raises(EngineDeadError, match="no memory"):
        await collect(engine, "late")
