"""Each peer gets a virtual environment of its own, kept between runs; a peer that cannot be had says why."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

INSTALL_SECONDS = 1800
READY_SECONDS = 600


class PeerUnavailableError(RuntimeError):
    """The peer cannot be installed or started here; the message says why."""


def make_environment(folder: Path, requirements: list[str], *, extra_index: str | None = None) -> Path:
    """A virtual environment with `requirements` in `folder`; returns its python. Raises PeerUnavailableError."""
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    run([sys.executable, "-m", "venv", str(folder)])
    command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
    run(command + (["--extra-index-url", extra_index] if extra_index else []))
    stamp.write_text(wanted)
    return python


def run(command: list[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Raises PeerUnavailableError with the end of what the command said."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailableError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise PeerUnavailableError(f"{' '.join(command[:6])} failed: {' / '.join(said[-3:])[-400:]}")


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
    """Start a server, yield its URL when it is healthy, stop it. Raises PeerUnavailableError."""
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
            raise PeerUnavailableError(
                f"ended with exit code {process.returncode} before it was ready: {said[-400:]}"
            )
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise PeerUnavailableError(f"was not ready after {READY_SECONDS} s; see {log}")
