"""How fast this machine reads memory, and how much of it a base takes.

    python -m bench.memory FOLDER QUANTIZATION

prints the megabytes that a fresh process holds more after loading the base than before, with a small cache.
"""

import subprocess
import sys
import time
from pathlib import Path

import torch

from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.sampling_params import SamplingParams

_FLOATS = 64 * 1024 * 1024  # 256 MB: far more than any cache
_ROUNDS = 8


def read_bandwidth() -> float:
    """Bytes a second, the best of several sums over a large tensor with all threads."""
    values = torch.ones(_FLOATS)
    rates = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        values.sum()
        rates.append(values.numel() * values.element_size() / (time.perf_counter() - start))
    return max(rates)


def owned_bytes() -> int:
    """What this process holds of its own: pages of a mapped weights file, which the system may drop, are not counted."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")
    )
    return int(line.split()[1]) * 1024


def base_megabytes(base: Path, quantization: str) -> int:
    """What the base takes in memory, measured in a process of its own: what another engine left behind is not counted."""
    command = [sys.executable, "-m", "bench.memory", str(base), quantization]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    base, quantization = Path(sys.argv[1]), sys.argv[2]
    before = owned_bytes()
    config = EngineConfig(quantization=quantization, num_blocks=16, max_model_len=512)  # type: ignore[arg-type]
    engine = LLMEngine(base, config)
    engine.generate([[1000, 1001]], SamplingParams(temperature=0, max_tokens=4))
    print(round((owned_bytes() - before) / 1e6))


if __name__ == "__main__":
    main()
