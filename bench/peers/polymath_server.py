"""Polymath itself, in the same run: bf16, and with 8-bit weights."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.peers.environment import free_port, running
from bench.peers.load import Peer, Setup


@contextmanager
def start(setup: Setup, quantization: str = "none") -> Iterator[Peer]:
    port = free_port()
    empty = setup.scratch / "empty"
    empty.mkdir(exist_ok=True)
    environment = {
        "POLYMATH_ADAPTER_FOLDER": str(setup.adapters[0].parent),
        "POLYMATH_CATALOG": str(empty),
        "POLYMATH_QUANTIZATION": quantization,
        "POLYMATH_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "server", "serve", "--port", str(port)]
    log = setup.scratch / f"polymath-{quantization}.log"
    with running(command, port, log, environment, health="/ready") as url:
        yield Peer(url, "base", [folder.name for folder in setup.adapters])
