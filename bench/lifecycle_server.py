"""A `polymath serve` of its own for `bench.adapter_lifecycle`: empty catalog, fresh state, an admin key, one root."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ADMIN_KEY = "bench-admin-key"
_READY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class LifecycleServer:
    """Where it listens, and its process."""

    url: str
    process: subprocess.Popen[bytes]

    def num_open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def lifecycle_server(
    state: Path, adapters: Path, quantization: str, *, exact: bool = False
) -> Iterator[LifecycleServer]:
    """`exact`: tokens do not depend on who shares the batch. Raises RuntimeError if it does not start."""
    (state / "catalog").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "POLYMATH_ADMIN_KEY": ADMIN_KEY,
        "POLYMATH_ADAPTER_ROOTS": str(adapters),
        "POLYMATH_CATALOG": str(state / "catalog"),
        "POLYMATH_STATE_FOLDER": str(state),
        "POLYMATH_QUANTIZATION": quantization,
        "POLYMATH_BATCH_INVARIANT": str(exact).lower(),
        "POLYMATH_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "server", "serve", "--port", str(port)]
    with (state / "log").open("wb") as log:  # the audit log is told at every level
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, state / "log")
        yield LifecycleServer(url, process)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"polymath serve ended before it was ready: {log.read_text()[-500:]}")
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"polymath serve was not ready after {_READY_SECONDS} s")
