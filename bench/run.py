"""`make bench`: all measurements of one machine in one run.

    python -m bench.run [--skip-http] [--quantizations none int8 ...]

Prints tables and writes `bench/results/<date>-<machine>-<commit>.json`.
"""

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.adapters import write_random_adapter
from bench.engine_bench import measure_decode, measure_prefill
from bench.http_bench import NUM_CLIENTS, NUM_TOKENS, measure_streams
from bench.lookup_bench import measure_lookup
from bench.memory import base_megabytes, read_bandwidth
from bench.results import describe_run, write_results
from bench.router_bench import measure_routing
from bench.server_process import running_polymath
from bench.serving_bench import measure_mixes, measure_second_turn, measure_stall
from server.settings import Settings
from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.base_model import resolve_base, resolve_encoder
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams

RANK = 16
NUM_ADAPTERS = 4
QUANTIZATIONS = ("none", "int8", "bnb-nf4", "bnb-int8")
_FULL = ("none", "int8")  # these are measured with everything, the others by their decode step

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure speed on this machine.")
    parser.add_argument("--skip-http", action="store_true", help="leave out the server")
    parser.add_argument("--quantizations", nargs="*", choices=QUANTIZATIONS, default=QUANTIZATIONS)
    options = parser.parse_args()
    settings = Settings.load()
    base = resolve_base(settings.base, settings.home)
    results: Row = {
        **describe_run(),
        "lora_rank": RANK,
        "read_gb_per_second": round(read_bandwidth() / 1e9, 1),
    }
    print(f"memory is read at {results['read_gb_per_second']} GB/s")
    with tempfile.TemporaryDirectory() as scratch:
        folders = [
            write_random_adapter(Path(scratch) / f"bench{seed}", read_qwen_config(base), rank=RANK, seed=seed)
            for seed in range(NUM_ADAPTERS)
        ]
        for quantization in options.quantizations:
            print(f"\n== quantization {quantization}")
            measured: Row = {}
            if not options.skip_http and quantization in _FULL:
                measured["http"] = _http(Path(scratch), quantization)
            measured |= _engine(base, settings.home, folders, quantization, results["read_gb_per_second"])
            if "http" in measured:
                measured["http_share"] = _shares(measured.pop("direct"), measured["http"])
                print(json.dumps(measured["http_share"]))
            measured["ratios"] = _ratios(measured["decode"])
            print(json.dumps(measured["ratios"]))
            results[quantization] = measured
    results["routing"] = _table("routing", measure_routing(resolve_encoder(settings.encoder, settings.home)))
    print(f"wrote {write_results(results)}")


def _engine(base: Path, home: Path, folders: list[Path], quantization: str, bandwidth: float) -> Row:
    megabytes = base_megabytes(base, quantization)
    start = time.perf_counter()
    config = EngineConfig(quantization=quantization, kernel_folder=home / "kernels")  # type: ignore[arg-type]
    engine = LLMEngine(base, replace(config, max_draft_rows=0))  # a step of so many rows has so many
    measured: Row = {
        "load_seconds": round(time.perf_counter() - start, 1),
        "native_kernels": engine.runner.kernels is not None,
    }
    registry = AdapterRegistry(read_qwen_config(base), prepare=engine.runner.prepare)
    measured["base_mb"] = megabytes
    adapters = [registry.load(folder) for folder in folders]
    measured["adapter_mb"] = [round(adapter.num_bytes / 1e6, 1) for adapter in adapters]
    measured["decode"] = _table("decode", measure_decode(engine, adapters))
    _add_bandwidth(measured["decode"], _weight_bytes(engine, quantization), bandwidth)
    measured["prefill"] = _table("prefill", measure_prefill(engine))
    if quantization in _FULL:
        measured["long_prompt"] = _table("a 2,000-token prompt beside streams", measure_stall(engine))
        measured["second_turn"] = _table("second turn", measure_second_turn(engine))
        measured["mixes"] = _table("mixes of adapters", measure_mixes(engine, _maker(adapters)))
        measured["direct"] = _direct(engine, adapters)
        measured["prompt_lookup"] = _table("guesses by prompt lookup", measure_lookup(base, config))
    return measured


def _maker(adapters: list[LoadedAdapter]) -> Any:
    """Any number of adapters out of four sets of weights: each a generation of its own, to slots and cache another one."""
    generations = itertools.count(1_000_000)

    def make(number: int) -> LoadedAdapter:
        model = adapters[number % len(adapters)]
        return replace(model, name=f"copy{number}", generation=next(generations))

    return make


def _weight_bytes(engine: LLMEngine, quantization: str) -> float:
    """What one decode step reads of the base: every linear and the output layer, once."""
    shape = engine.runner.model.config
    inner, hidden = shape.intermediate_size, shape.hidden_size
    layer = hidden * (2 * shape.query_size + 2 * shape.kv_size + 3 * inner)
    size = {"none": 2.0, "int8": 1.0, "bnb-nf4": 0.5, "bnb-int8": 1.0}[quantization]
    head = 2.0 if quantization.startswith("bnb-") else size
    return size * shape.num_layers * layer + head * shape.vocab_size * hidden


def _add_bandwidth(rows: list[Row], num_bytes: float, gb_per_second: float) -> None:
    for row in rows:
        row["share_of_bandwidth"] = round(num_bytes / (row["step_ms"] / 1000) / 1e9 / gb_per_second, 3)


def _http(adapter_folder: Path, quantization: str) -> list[Row]:
    names = [f"bench{seed}" for seed in range(NUM_ADAPTERS)]
    with running_polymath(adapter_folder, adapter_folder, quantization) as url:
        cases = ((["base"], 16), (names[:1], 16), (names, 16), (names[:1], 1))
        return _table(
            "http", (asyncio.run(measure_streams(url, models, clients)) for models, clients in cases)
        )


def _direct(engine: LLMEngine, adapters: list[LoadedAdapter]) -> list[float]:
    """Tokens a second for the requests of the HTTP measurement, given to the engine at once."""
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
    texts = [f"Question {i}: tell me something about the number {i}." for i in range(NUM_CLIENTS)]
    prompts = [engine.tokenizer.encode_chat([{"role": "user", "content": text}]) for text in texts]
    rates = []
    for count in (0, 1, NUM_ADAPTERS):
        chosen = [adapters[i % count] if count else None for i in range(NUM_CLIENTS)]
        start = time.perf_counter()
        engine.generate(prompts, params, chosen)
        rates.append(NUM_CLIENTS * NUM_TOKENS / (time.perf_counter() - start))
    return rates


def _shares(direct: list[float], http: list[Row]) -> Row:
    """What HTTP, threads and routing cost on top of the engine."""
    return {
        f"adapters_{row['adapters']}": round(1 - row["tokens_per_second"] / rate, 3)
        for row, rate in zip(http, direct, strict=False)
    }


def _ratios(decode: list[Row]) -> dict[str, float]:
    """What carries from machine to machine: adapters against the base, and four against one."""
    speed = {(row["batch_size"], row["adapters"]): row["tokens_per_second"] for row in decode}
    ratios = {}
    for batch_size in sorted({size for size, _ in speed}):
        ratios[f"one_vs_base_{batch_size}"] = round(speed[batch_size, 1] / speed[batch_size, 0], 3)
        if (batch_size, 4) in speed:
            ratios[f"four_vs_one_{batch_size}"] = round(speed[batch_size, 4] / speed[batch_size, 1], 3)
    return ratios


def _table(title: str, rows: Iterable[Row]) -> list[Row]:
    collected: list[Row] = []
    for row in rows:
        if not collected:
            print(f"\n{title}\n" + "".join(f"{name:>20}" for name in row))
        print("".join(f"{value:>20}" for value in row.values()), flush=True)
        collected.append(row)
    return collected


if __name__ == "__main__":
    main()
