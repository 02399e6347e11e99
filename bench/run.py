"""`make bench`: all measurements of one machine in one run.

    python -m bench.run [--skip-http]

Prints tables and writes `bench/results/<date>-<machine>-<commit>.json`.
"""

import argparse
import asyncio
import json
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.adapters import write_random_adapter
from bench.engine_bench import measure_decode, measure_prefill
from bench.http_bench import NUM_CLIENTS, NUM_TOKENS, measure_streams, running_server
from bench.router_bench import measure_routing
from server.settings import Settings
from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.base_model import resolve_base, resolve_encoder
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.provenance import current_commit, describe_machine

RESULTS = Path(__file__).with_name("results")
RANK = 16


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure speed on this machine.")
    parser.add_argument("--skip-http", action="store_true", help="leave out the server")
    options = parser.parse_args()
    settings = Settings.load()
    base = resolve_base(settings.base, settings.home)
    encoder = resolve_encoder(settings.encoder, settings.home)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": current_commit(),
        "lora_rank": RANK,
    }
    with tempfile.TemporaryDirectory() as scratch:
        folders = [
            write_random_adapter(Path(scratch) / f"bench{seed}", read_qwen_config(base), rank=RANK, seed=seed)
            for seed in range(4)
        ]
        if not options.skip_http:
            results["http"] = _http(Path(scratch))
        registry = AdapterRegistry(read_qwen_config(base))
        adapters = [registry.load(folder) for folder in folders]
        engine = LLMEngine(base, EngineConfig())
        results["decode"] = _table("decode", measure_decode(engine, adapters))
        results["prefill"] = _table("prefill", measure_prefill(engine))
        if not options.skip_http:
            results["http_share"] = _http_share(results["http"], engine, adapters)
    results["routing"] = _table("routing", measure_routing(encoder))
    results["ratios"] = _ratios(results["decode"])
    print(json.dumps({"ratios": results["ratios"], "http_share": results.get("http_share")}, indent=1))
    print(f"wrote {_write(results)}")


def _http(adapter_folder: Path) -> list[dict[str, float | int]]:
    empty = adapter_folder / ".empty"
    empty.mkdir()
    names = [f"bench{seed}" for seed in range(4)]
    with running_server(adapter_folder, empty) as url:
        cases = (["base"], names[:1], names)
        return _table("http", (asyncio.run(measure_streams(url, models)) for models in cases))


def _http_share(
    http: list[dict[str, float | int]], engine: LLMEngine, adapters: list[LoadedAdapter]
) -> dict[str, float]:
    """The same requests as over HTTP, given to the engine at once: what HTTP, threads and routing cost on top."""
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
    texts = [f"Question {i}: tell me something about the number {i}." for i in range(NUM_CLIENTS)]
    prompts = [engine.tokenizer.encode_chat([{"role": "user", "content": text}]) for text in texts]
    shares = {}
    for row, count in zip(http, (0, 1, 4), strict=True):
        chosen = [adapters[i % count] if count else None for i in range(NUM_CLIENTS)]
        engine.generate(prompts[:4], SamplingParams(temperature=0, max_tokens=2, ignore_eos=True), chosen[:4])
        start = datetime.now(UTC)
        engine.generate(prompts, params, chosen)
        direct = NUM_CLIENTS * NUM_TOKENS / (datetime.now(UTC) - start).total_seconds()
        shares[f"direct_tokens_per_second_{count}_adapters"] = round(direct, 1)
        shares[f"http_share_{count}_adapters"] = round(1 - row["tokens_per_second"] / direct, 3)
    return shares


def _ratios(decode: list[dict[str, float | int]]) -> dict[str, float]:
    """What carries from machine to machine: adapters against the base, and four against one."""
    speed = {(row["batch_size"], row["adapters"]): row["tokens_per_second"] for row in decode}
    ratios = {}
    for batch_size in sorted({size for size, _ in speed}):
        ratios[f"one_vs_base_{batch_size}"] = round(speed[batch_size, 1] / speed[batch_size, 0], 3)
        if (batch_size, 4) in speed:
            ratios[f"four_vs_one_{batch_size}"] = round(speed[batch_size, 4] / speed[batch_size, 1], 3)
    return ratios


def _table(title: str, rows: Any) -> list[dict[str, float | int]]:
    collected: list[dict[str, float | int]] = []
    for row in rows:
        if not collected:
            print(f"\n{title}\n" + "".join(f"{name:>20}" for name in row))
        print("".join(f"{value:>20}" for value in row.values()), flush=True)
        collected.append(row)
    return collected


def _write(results: dict[str, Any]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    machine = re.sub(r"[^a-z0-9]+", "-", results["machine"].lower()).strip("-")
    name = f"{results['date'][:10]}-{machine}-{results['commit']}.json"
    path = RESULTS / name
    path.write_text(json.dumps(results, indent=2) + "\n")
    return Path(os.path.relpath(path))


if __name__ == "__main__":
    main()
