"""Each peer gets a virtual environment of its own, kept between runs; a peer that cannot be had says why."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

INSTALL_SECONDS = 3600


class PeerUnavailableError(RuntimeError):
    """The peer cannot be installed here; the message says why."""


def make_environment(folder: Path, requirements: list[str]) -> Path:
    """A virtual environment with `requirements` in `folder`; returns its python. Raises PeerUnavailableError."""
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    run([sys.executable, "-m", "venv", str(folder)])
    run([str(python), "-m", "pip", "install", "--quiet", *requirements])
    stamp.write_text(wanted)
    return python


def run(command: list[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What the command printed. Raises PeerUnavailableError with the end of what the command said."""
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
    return done.stdout
