"""The load that every server gets: the same prompts, lengths and concurrency, over the same OpenAI endpoint."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.http_bench import measure_streams

RANK = 16
NUM_ADAPTERS = 4


@dataclass(frozen=True, slots=True)
class Setup:
    """What a peer needs: the imported base, PEFT adapters, a folder to keep its installation, one to throw away."""

    base: Path
    adapters: list[Path]
    home: Path
    scratch: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server. `choices` are body fields that choose an adapter, where its name as `model` does not."""

    url: str
    base: str
    adapters: list[str]
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)


def measure(peer: Peer) -> dict[str, Any]:
    """Tokens a second for 16 streams with the base, one adapter and four mixed, and for a single stream."""
    cases = {
        "base": ([peer.base], 16),
        "one_adapter": (peer.adapters[:1], 16),
        "four_adapters": (peer.adapters, 16),
        "single_stream": ([peer.base], 1),
        "single_stream_adapter": (peer.adapters[:1], 1),
    }
    results: dict[str, Any] = {}
    for name, (models, clients) in cases.items():
        row = asyncio.run(measure_streams(peer.url, models, num_clients=clients, choices=peer.choices))
        results[name] = row["tokens_per_second"]
        results[f"{name}_ttft_ms"] = row["median_ttft_ms"]
    return results
