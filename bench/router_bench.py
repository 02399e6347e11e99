"""Latency of one routing decision, by the length of the prompt."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from router.delegator import Delegator

WORDS = (8, 40, 160, 2000)
ROUNDS = 40


def measure_routing(encoder: Path) -> Iterator[dict[str, float | int]]:
    """Yield the median and 95th percentile in milliseconds for prompts of several lengths."""
    delegator = Delegator.from_folder(encoder)
    for num_words in WORDS:
        text = " ".join(f"word{number % 97}" if number % 3 else "number" for number in range(num_words))
        for _ in range(5):
            delegator.route_text(text)
        milliseconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            delegator.route_text(text)
            milliseconds.append(1000 * (time.perf_counter() - start))
        milliseconds.sort()
        yield {
            "words": num_words,
            "p50_ms": round(statistics.median(milliseconds), 2),
            "p95_ms": round(milliseconds[int(0.95 * ROUNDS)], 2),
        }
