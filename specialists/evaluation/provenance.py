"""Where a number comes from: the commit of the code and the machine it ran on."""

import os
import platform
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def current_commit() -> str:
    """The short commit of this code, `-dirty` when files differ from it, "unknown" outside a git checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def describe_machine() -> str:
    """Processor, number of cores, system: `AMD EPYC, 2 cores, Linux x86_64`."""
    cores = os.cpu_count() or 1
    return f"{_processor_name()}, {cores} cores, {platform.system()} {platform.machine()}"


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
