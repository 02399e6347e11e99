"""A server as a process of its own: started on a free port, waited for, stopped."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

READY_SECONDS = 600


class ServerError(RuntimeError):
    """The server did not start; the message has the end of what it said."""


@contextmanager
def running_polymath(adapter_folder: Path, scratch: Path, quantization: str = "none") -> Iterator[str]:
    """`polymath serve` with the adapters of one folder and no catalog; yields its URL. Raises ServerError."""
    empty = scratch / ".no-catalog"  # hidden: `scratch` may be the adapter folder itself
    empty.mkdir(exist_ok=True)
    environment = {
        "POLYMATH_ADAPTER_FOLDER": str(adapter_folder),
        "POLYMATH_CATALOG": str(empty),
        "POLYMATH_STATE_FOLDER": str(scratch / f".state-{quantization}"),  # not what an operator loaded here
        "POLYMATH_QUANTIZATION": quantization,
        "POLYMATH_LOG_LEVEL": "warning",
    }
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", "--port", str(port)]
    log = scratch / f"polymath-{quantization}.log"
    with running(command, port, log, environment, health="/ready") as url:
        yield url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str],
    port: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    health: str = "/health",
) -> Iterator[str]:
    """Start a server, yield its URL when it is healthy, stop it. Raises ServerError."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=os.environ | dict(environment or {}), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_healthy(f"{url}{health}", process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
            raise ServerError(f"ended with exit code {process.returncode} before it was ready: {said[-400:]}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise ServerError(f"was not ready after {READY_SECONDS} s; see {log}")
