"""How fast this machine reads memory, and how much of that a decode step uses."""

import resource
import time
from pathlib import Path

import torch

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


def resident_bytes() -> int:
    """What this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
