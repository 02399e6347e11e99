"""Throughput over HTTP: 16 clients stream from a real `polymath serve`, against the same work given to the engine directly.

The server runs as its own process on a free port, with the bench's adapters in its adapter folder.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import httpx

NUM_CLIENTS = 16
NUM_TOKENS = 64


async def measure_streams(
    url: str,
    models: list[str],
    num_clients: int = NUM_CLIENTS,
    choices: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, float | int]:
    """All clients start together, client i with model i modulo their number; tokens a second over all of them.

    `choices` are further body fields by model, for servers that choose an adapter by them.
    """
    choices = choices or {}
    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        for model in models:
            await _stream(client, model, 998, 4, choices.get(model))
        start = time.perf_counter()
        results = await asyncio.gather(
            *(
                _stream(client, model, i, NUM_TOKENS, choices.get(model))
                for i, model in enumerate(islice(cycle(models), num_clients))
            )
        )
        seconds = time.perf_counter() - start
    num_tokens = sum(count for count, _ in results)
    return {
        "clients": num_clients,
        "adapters": len([model for model in models if model != "base"]),
        "tokens": num_tokens,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(num_tokens / seconds, 1),
        "median_ttft_ms": round(1000 * statistics.median(first for _, first in results), 1),
    }


async def _stream(
    client: httpx.AsyncClient, model: str, number: int, num_tokens: int, choice: dict[str, Any] | None = None
) -> tuple[int, float]:
    """One streaming request; returns its completion tokens and seconds to its first text."""
    body = {
        **(choice or {}),
        "model": model,
        "messages": [
            {"role": "user", "content": f"Question {number}: tell me something about the number {number}."}
        ],
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start = time.perf_counter()
    first_text = 0.0
    completion_tokens = 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if not first_text and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                first_text = time.perf_counter() - start
            if chunk.get("usage"):
                completion_tokens = chunk["usage"]["completion_tokens"]
    assert completion_tokens == num_tokens, f"{model} sent {completion_tokens} tokens, expected {num_tokens}"
    return completion_tokens, first_text
