"""A `polymath serve` of its own for `bench.adapter_lifecycle`: empty catalog, fresh state, an admin key, one root."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.server_process import free_port, running

ADMIN_KEY = "bench-admin-key"


@dataclass(frozen=True, slots=True)
class LifecycleServer:
    """Where it listens."""

    url: str

    def num_open_files(self) -> int:
        found = re.search(r"^process_open_fds (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found is not None, "the server counts its open files"
        return int(float(found[1]))


@contextmanager
def lifecycle_server(
    state: Path, adapters: Path, quantization: str, *, exact: bool = False
) -> Iterator[LifecycleServer]:
    """`exact`: tokens do not depend on who shares the batch. Raises ServerError if it does not start."""
    (state / "catalog").mkdir(parents=True)
    port = free_port()
    environment = {
        "POLYMATH_ADMIN_KEY": ADMIN_KEY,
        "POLYMATH_ADAPTER_ROOTS": str(adapters),
        "POLYMATH_CATALOG": str(state / "catalog"),
        "POLYMATH_STATE_FOLDER": str(state),
        "POLYMATH_QUANTIZATION": quantization,
        "POLYMATH_BATCH_INVARIANT": str(exact).lower(),
        "POLYMATH_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "server", "serve", "--port", str(port)]
    with running(command, port, state / "log", environment, health="/ready") as url:
        yield LifecycleServer(url)
