"""Decode and prefill speed of the engine itself, without HTTP.

Decode: N sequences of 64 prompt tokens each run with 0, 1 and 4 adapters in turn; a figure is the median over steps. The
three cases take turns within each round, so that a machine that slows down slows them alike.
"""

import statistics
import time
from collections.abc import Iterator, Sequence

from specialists.adapters.registry import LoadedAdapter
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.sampling_params import SamplingParams

BATCH_SIZES = (1, 8, 16, 32)
ADAPTER_COUNTS = (0, 1, 4)
PROMPT_TOKENS = 64
STEPS_PER_ROUND = 8
ROUNDS = 3
PREFILL_TOKENS = (128, 512, 2048)

_ENDLESS = SamplingParams(temperature=0, max_tokens=1000, ignore_eos=True)


def measure_decode(
    engine: LLMEngine, adapters: list[LoadedAdapter], batch_sizes: Sequence[int] = BATCH_SIZES
) -> Iterator[dict[str, float | int]]:
    """Yield one row per batch size and number of adapters: milliseconds a step, tokens a second."""
    for batch_size in batch_sizes:
        counts = [count for count in ADAPTER_COUNTS if count <= min(batch_size, len(adapters))]
        seconds: dict[int, list[float]] = {count: [] for count in counts}
        for _ in range(ROUNDS):
            for count in counts:
                seconds[count] += _time_steps(engine, batch_size, adapters[:count])
        for count in counts:
            median = statistics.median(seconds[count])
            yield {
                "batch_size": batch_size,
                "adapters": count,
                "step_ms": round(1000 * median, 2),
                "tokens_per_second": round(batch_size / median, 1),
            }


def _time_steps(engine: LLMEngine, batch_size: int, adapters: list[LoadedAdapter]) -> list[float]:
    names = [f"bench-{number}" for number in range(batch_size)]
    for number, name in enumerate(names):
        prompt = [1000 + 100 * number + position for position in range(PROMPT_TOKENS)]
        adapter = adapters[number % len(adapters)] if adapters else None
        engine.add_request(name, prompt, _ENDLESS, adapter)
    while engine.scheduler.waiting or not all(sequence.is_decoding for sequence in engine.scheduler.running):
        engine.step()
    engine.step()  # the adapters' stack is made by now, whatever was there before
    seconds = []
    for _ in range(STEPS_PER_ROUND):
        start = time.perf_counter()
        engine.step()
        seconds.append(time.perf_counter() - start)
    for name in names:
        engine.abort(name)
    return seconds


def measure_prefill(engine: LLMEngine, rounds: int = 3) -> Iterator[dict[str, float | int]]:
    """Yield tokens a second for single prompts of several lengths; each prompt is new to the cache."""
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    first = 0
    for length in PREFILL_TOKENS:
        seconds = []
        for _ in range(rounds):
            first += 1
            prompt = [(7 * first + position) % 50_000 + 1000 for position in range(length)]
            engine.add_request("prefill", prompt, params)
            start = time.perf_counter()
            while engine.has_unfinished:
                engine.step()
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        yield {
            "prompt_tokens": length,
            "seconds": round(median, 3),
            "tokens_per_second": round(length / median, 1),
        }
