"""Polymath itself, in the same run: bf16, and with 8-bit weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.peers.load import Peer, Setup
from bench.server_process import running_polymath


@contextmanager
def start(setup: Setup, quantization: str = "none") -> Iterator[Peer]:
    with running_polymath(setup.adapters[0].parent, setup.scratch, quantization) as url:
        yield Peer(url, "base", [folder.name for folder in setup.adapters])
