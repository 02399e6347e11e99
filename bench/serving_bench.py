"""What happens between requests: a long prompt beside running streams, second turns, many adapters over few slots."""

import random
import statistics
import time
from collections.abc import Callable, Iterator

from specialists.adapters.registry import LoadedAdapter
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.sampling_params import SamplingParams

_ENDLESS = SamplingParams(temperature=0, max_tokens=1000, ignore_eos=True)
_ONE_TOKEN = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
LONG_PROMPT = 2000
NUM_REQUESTS = 96
TOKENS_PER_REQUEST = 24


def measure_stall(engine: LLMEngine) -> Iterator[dict[str, float | int]]:
    """Yield the longest step while a 2,000-token prompt is computed beside streams, against their ordinary step."""
    for num_streams in (1, 8, 16):
        for number in range(num_streams):
            engine.add_request(f"s{number}", _prompt(64, number), _ENDLESS)
        while engine.scheduler.waiting or not all(s.is_decoding for s in engine.scheduler.running):
            engine.step()
        ordinary = statistics.median(_time_step(engine) for _ in range(12))
        engine.add_request("long", _prompt(LONG_PROMPT, 77 + num_streams), _ONE_TOKEN)
        steps = []
        while any(sequence.request_id == "long" for sequence in _present(engine)):
            steps.append(_time_step(engine))
        for number in range(num_streams):
            engine.abort(f"s{number}")
        steps.sort()
        yield {
            "streams": num_streams,
            "ordinary_ms": round(1000 * ordinary, 1),
            "median_ratio": round(statistics.median(steps) / ordinary, 2),
            "p95_ratio": round(steps[int(0.95 * len(steps))] / ordinary, 2),
            "longest_ratio": round(steps[-1] / ordinary, 2),
            "prompt_seconds": round(sum(steps), 2),
        }


def _present(engine: LLMEngine) -> list[object]:
    return [*engine.scheduler.running, *engine.scheduler.waiting]


def _prompt(length: int, seed: int) -> list[int]:
    return [(7919 * (seed + 1) + 13 * position) % 50_000 + 1000 for position in range(length)]


def _time_step(engine: LLMEngine) -> float:
    start = time.perf_counter()
    engine.step()
    return time.perf_counter() - start


def measure_second_turn(engine: LLMEngine) -> Iterator[dict[str, float | int]]:
    """Yield the time to the first token of a chat's first turn, and of a second turn that adds 32 tokens."""
    for length in (256, 1024, 3072):
        prompt = _prompt(length, length)
        first = _time_to_first(engine, prompt)
        second = _time_to_first(engine, prompt + _prompt(32, 5))
        yield {
            "history": length,
            "first_turn_ms": round(1000 * first, 1),
            "second_turn_ms": round(1000 * second, 1),
        }


def _time_to_first(engine: LLMEngine, prompt: list[int]) -> float:
    engine.add_request("turn", prompt, _ONE_TOKEN)
    start = time.perf_counter()
    while engine.has_unfinished:
        engine.step()
    return time.perf_counter() - start


def measure_mixes(
    engine: LLMEngine, make: Callable[[int], LoadedAdapter]
) -> Iterator[dict[str, float | int | str]]:
    """Yield tokens a second over 96 requests for numbers of adapters below and above the slots, in Punica's mixes.

    identical: all ask for one adapter; uniform: any is as likely; skewed: Zipf with exponent 1.5, as Punica has it;
    distinct: no two requests share one. `make(i)` gives the i-th adapter, a generation of its own.
    """
    num_slots = engine.config.max_adapters
    cases = [("identical", 1), ("uniform", 4), ("uniform", num_slots), ("uniform", num_slots + 1)]
    cases += [("uniform", 100), ("skewed", 4), ("skewed", 100), ("skewed", 1000), ("distinct", NUM_REQUESTS)]
    for mix, count in cases:
        chooser = random.Random(20)
        weights = [1 / (rank + 1) ** 1.5 for rank in range(count)] if mix == "skewed" else [1.0] * count
        chosen = (
            list(range(count))
            if mix == "distinct"
            else chooser.choices(range(count), weights, k=NUM_REQUESTS)
        )
        adapters = {number: make(number) for number in set(chosen)}
        start = time.perf_counter()
        for number, adapter in enumerate(chosen):
            params = SamplingParams(temperature=0, max_tokens=TOKENS_PER_REQUEST, ignore_eos=True)
            engine.add_request(str(number), _prompt(16, number), params, adapters[adapter])
        while engine.has_unfinished:
            engine.step()
        seconds = time.perf_counter() - start
        yield {
            "mix": mix,
            "adapters": count,
            "used": len(adapters),
            "tokens_per_second": round(NUM_REQUESTS * TOKENS_PER_REQUEST / seconds, 1),
        }
