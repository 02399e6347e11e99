"""Loading, replacing and unloading specialists on a real server with the real base, and what running streams feel of it.

    python -m bench.adapter_lifecycle [--operations 500] [--rounds 5] [--quantization none]

Three measurements: load to routable of a rank-16 adapter from local disk (idle, and beside 16 streams); the longest gap
between tokens of 16 running streams with and without loading, in steps; and random operations while 16 streams run, whose
texts are compared with what each prompt gets alone (a batch-invariant server). Prints tables and writes
`bench/results/adapters-<date>-<machine>-<commit>.json`.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.adapters import write_random_adapter
from bench.churn import Churner
from bench.lifecycle_server import ADMIN_KEY, LifecycleServer, lifecycle_server
from bench.results import describe_run, write_results
from server.settings import Settings
from specialists.base_model import resolve_base
from specialists.engine.qwen_config import read_qwen_config

RANK = 16
NUM_STREAMS = 16
NUM_TOKENS = 96
NUM_LOADS = 30
LOAD_BAR_MS = 100.0
GAP_BAR_STEPS = 0.5

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the life of adapters on this machine.")
    parser.add_argument("--operations", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5, help="of streams with and without loading")
    parser.add_argument("--quantization", default="none", choices=("none", "int8"))
    options = parser.parse_args()
    settings = Settings.load()
    base = resolve_base(settings.base, settings.home)
    results: Row = {**describe_run(), "lora_rank": RANK, "quantization": options.quantization}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        shape = read_qwen_config(base)
        folders = [
            write_random_adapter(root / "adapters" / f"bench{seed}", shape, rank=RANK, seed=seed)
            for seed in range(4)
        ]
        with lifecycle_server(root / "speed", root / "adapters", options.quantization) as server:
            results |= asyncio.run(_measure_speed(server, folders, options.rounds))
        with lifecycle_server(root / "churn", root / "adapters", options.quantization, exact=True) as server:
            results["churn"] = asyncio.run(_churn(server, folders, options.operations))
    print(f"wrote {write_results(results, 'adapters-')}")


def _client(server: LifecycleServer) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    limits = httpx.Limits(max_connections=2 * NUM_STREAMS)
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=300, limits=limits)


async def _measure_speed(server: LifecycleServer, folders: Sequence[Path], num_rounds: int) -> Row:
    async with _client(server) as http:
        for number, folder in enumerate(folders):
            await _load(http, f"stream{number}", folder)
        models = ["base", *(f"stream{number}" for number in range(len(folders)))]
        await _stream_all(http, models, num_tokens=8)
        idle = [await _load(http, f"idle{number % 8}", folders[number % 4]) for number in range(NUM_LOADS)]
        results: Row = {"load_idle": _spread(idle)}
        _show("load to routable, idle", results["load_idle"])
        quiet: list[Row] = []
        loading: list[Row] = []
        beside: list[float] = []
        for number in range(
            num_rounds
        ):  # the two take turns, so that a machine that slows down slows them alike
            quiet.append(_gaps(await _stream_all(http, models, NUM_TOKENS)))
            gaps, loads = await _stream_while_loading(http, models, folders, number)
            loading.append(_gaps(gaps))
            beside += loads
        results["load_beside_streams"] = _spread(beside)
        _show(f"load to routable, beside {NUM_STREAMS} streams", results["load_beside_streams"])
        results["gaps"] = {"quiet": quiet, "loading": loading} | _growth(quiet, loading)
        _show(
            "longest gap between tokens",
            {k: v for k, v in results["gaps"].items() if k != "quiet" and k != "loading"},
        )
        results["bars"] = {
            "load_idle_ms": [results["load_idle"]["median_ms"], LOAD_BAR_MS],
            "gap_growth_steps": [results["gaps"]["growth_steps"], GAP_BAR_STEPS],
        }
        return results


async def _load(http: httpx.AsyncClient, name: str, folder: Path) -> float:
    """Milliseconds from the request to the answer, as the operator sees them."""
    started = time.perf_counter()
    body = {"name": name, "path": str(folder), "replace": True}
    response = await http.post("/admin/adapters", json=body)
    response.raise_for_status()
    return (time.perf_counter() - started) * 1000


async def _stream_all(http: httpx.AsyncClient, models: Sequence[str], num_tokens: int) -> list[list[float]]:
    """The moments at which each stream's texts came."""
    streams = [_stream(http, models[i % len(models)], i, num_tokens) for i in range(NUM_STREAMS)]
    return list(await asyncio.gather(*streams))


async def _stream_while_loading(
    http: httpx.AsyncClient, models: Sequence[str], folders: Sequence[Path], number: int
) -> tuple[list[list[float]], list[float]]:
    """The same while adapters are loaded one after the other, with a breath in between."""
    streams = asyncio.create_task(_stream_all(http, models, NUM_TOKENS))
    loads: list[float] = []
    while not streams.done():
        await asyncio.sleep(0.1)
        if not streams.done():
            loads.append(await _load(http, f"extra{len(loads) % 4}", folders[(number + len(loads)) % 4]))
    return await streams, loads


async def _stream(http: httpx.AsyncClient, model: str, number: int, num_tokens: int) -> list[float]:
    body = {
        "model": model,
        "messages": [
            {"role": "user", "content": f"Question {number}: say something about the number {number}."}
        ],
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        return [time.perf_counter() async for line in response.aiter_lines() if _has_text(line)]


def _has_text(line: str) -> bool:
    return line.startswith("data: {") and bool(json.loads(line[6:])["choices"][0]["delta"].get("content"))


def _gaps(streams: list[list[float]]) -> Row:
    """Gaps while all streams run: from the last first token to the first last token."""
    begin = max(moments[0] for moments in streams)
    end = min(moments[-1] for moments in streams)
    gaps = [
        later - earlier
        for moments in streams
        for earlier, later in itertools.pairwise(moments)
        if earlier >= begin and later <= end
    ]
    step = statistics.median(gaps)
    return {
        "step_ms": round(step * 1000, 1),
        "longest_ms": round(max(gaps) * 1000, 1),
        "longest_steps": round(max(gaps) / step, 2),
    }


def _growth(quiet: list[Row], loading: list[Row]) -> Row:
    """Of the rounds' medians: how much longer the longest gap is, in steps of the quiet streams."""
    step = statistics.median(row["step_ms"] for row in quiet)
    longest = {
        name: statistics.median(row["longest_ms"] for row in rows)
        for name, rows in (("quiet", quiet), ("loading", loading))
    }
    return {
        "step_ms": step,
        "longest_quiet_ms": longest["quiet"],
        "longest_loading_ms": longest["loading"],
        "growth_steps": round((longest["loading"] - longest["quiet"]) / step, 2),
    }


async def _churn(server: LifecycleServer, folders: Sequence[Path], num_operations: int) -> Row:
    async with _client(server) as http:
        names = [f"churn{number}" for number in range(6)]
        warm = Churner(http, folders, names, num_tokens=8, seed=1)
        await warm.run(NUM_STREAMS, 10)
        before = server.num_open_files()
        started = time.perf_counter()
        found = await Churner(http, folders, names, num_tokens=32, seed=2).run(NUM_STREAMS, num_operations)
        seconds = time.perf_counter() - started
        after = server.num_open_files()
    row: Row = {
        "seconds": round(seconds, 1),
        "open_files": [before, after],
        "load_ms": _spread(found.milliseconds),
        "operations": dict(found.operations),
        "statuses": dict(found.statuses),
        "streams": found.num_streams,
        "compared": found.num_compared,
        "names_gone": found.num_gone,
        "failures": found.failures,
        "num_wrong": len(found.wrong),
        "wrong": found.wrong[:5],
    }
    _show("operations among streams", row)
    return row


def _spread(values: Sequence[float]) -> Row:
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "median_ms": round(statistics.median(ordered), 1),
        "p90_ms": round(ordered[int(0.9 * (len(ordered) - 1))], 1),
        "max_ms": round(ordered[-1], 1),
    }


def _show(title: str, row: Row) -> None:
    print(f"{title}: {json.dumps(row)}", flush=True)


if __name__ == "__main__":
    main()
