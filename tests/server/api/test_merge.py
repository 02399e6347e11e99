"""Several streams read as one: everything arrives, the first failure too, and all are closed."""

from collections.abc import AsyncGenerator

import pytest

from server.api.merge import merged
from specialists.engine.output import RequestOutput
from specialists.engine.sampling_params import SamplingParams
from tests.server.fakes import ScriptedEngine


def streams(engine: ScriptedEngine, count: int) -> list[AsyncGenerator[RequestOutput, None]]:
    return [engine.generate(f"r{index}", [0], SamplingParams(), None) for index in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_everything_arrives_in_each_streams_order(count: int):
    engine = ScriptedEngine()
    texts: dict[int, str] = dict.fromkeys(range(count), "")
    async with merged(streams(engine, count)) as outputs:
        async for index, output in outputs:
            texts[index] += output.text
    assert set(texts.values()) == {"one two three"}
    assert not engine.running and not engine.aborted


@pytest.mark.parametrize("count", [1, 3])
async def test_leaving_early_closes_every_stream(count: int):
    engine = ScriptedEngine()
    async with merged(streams(engine, count)) as outputs:
        await anext(outputs)
    assert not engine.running
    assert len(engine.aborted) == count


@pytest.mark.parametrize("count", [1, 3])
async def test_a_failure_reaches_the_reader(count: int):
    engine = ScriptedEngine(fault=KeyError("scripted"), fault_after=1)
    with pytest.raises(KeyError):
        async with merged(streams(engine, count)) as outputs:
            async for _ in outputs:
                pass
    assert not engine.running
