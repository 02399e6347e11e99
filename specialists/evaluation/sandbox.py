"""Run a program that a model wrote, confined, and say whether it came to its end without an exception.

Each run is a process of its own with: no network, its own process tree (killed as a whole), a root of its own that
holds Python's libraries and one small temporary folder, an empty environment, nobody's user id, and limits on CPU,
wall time, memory, processes and file size. On Linux as root this uses `unshare`; as another user the same through a user
namespace; where neither is allowed, only the limits remain and `Sandbox.isolation` says "limits".

What it does not protect against: a hole in the kernel or in Python itself; reading the libraries; filling a core
for the allowed seconds; several processes that each take the memory limit; a program written against this very
harness, which shares the interpreter and could forge its verdict. With isolation "limits" nor does it protect the
network, the files of the current user and, as root, the number of processes. It is a seat belt for models' mistakes,
not a jail for an attacker: run untrusted models in a disposable machine.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Isolation = Literal["root", "user-namespace", "limits"]

_CHILD = Path(__file__).with_name("sandbox_child.py")
_NAMESPACES = ("--net", "--pid", "--ipc", "--uts", "--mount", "--fork", "--kill-child")
_MAX_VERDICT_BYTES = 4096


class SandboxError(RuntimeError):
    """The sandbox itself could not be set up; nothing was run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use. Seconds, bytes, counts."""

    cpu_seconds: int = 5
    wall_seconds: float = 60.0  # generous: on a busy machine seconds pass without any being computed
    memory_bytes: int = 512 << 20
    max_processes: int = 8
    max_file_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class RunResult:
    """`ok` when the program ran to its end; otherwise `error` says why, on one line."""

    ok: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Runs programs under the same limits; may be called from several threads, each call waits."""

    limits: Limits = Limits()

    @property
    def isolation(self) -> Isolation:
        return _find_isolation()

    def run(self, program: str) -> RunResult:
        """Run Python source as a main program (standard library only). Raises SandboxError."""
        return _run(program, self.limits, self.isolation)

    def run_many(self, programs: Sequence[str], workers: int | None = None) -> list[RunResult]:
        """Run several programs, as many at a time as there are cores; results in the order given."""
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            return list(pool.map(self.run, programs))


@cache
def _find_isolation() -> Isolation:
    """The strongest form this machine allows, found by trying it once."""
    if shutil.which("unshare") is None:
        return "limits"
    candidate: Isolation = "root" if os.geteuid() == 0 else "user-namespace"
    try:
        return candidate if _run("pass", Limits(), candidate).ok else "limits"
    except SandboxError:
        return "limits"


def _run(program: str, limits: Limits, isolation: Isolation) -> RunResult:
    with tempfile.TemporaryDirectory(prefix="polymath-sandbox-") as folder:
        # The other user id has to pass through; it finds only an empty folder.
        Path(folder).chmod(0o711)
        work, verdict_file = Path(folder, "work"), Path(folder, "verdict")
        work.mkdir()
        nonce = secrets.token_hex(16)
        order = json.dumps(_make_order(program, limits, isolation, work, nonce)).encode()
        with verdict_file.open("wb") as verdict:
            # A group of its own, to be killed as a whole even without a process namespace. Not a session of its
            # own: the kernel schedules by session, and one with high priority would starve its programs.
            process = subprocess.Popen(
                [*_command(isolation), sys.executable, "-I", "-S", "-B", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=verdict,
                stderr=verdict,
                env={"PATH": "/usr/bin:/bin"},
                process_group=0,
            )
            timed_out = _feed_and_wait(process, order, limits.wall_seconds)
        if timed_out:
            return RunResult(False, f"timeout: more than {limits.wall_seconds:g} s")
        return _read_verdict(verdict_file, nonce, process.returncode)


def _command(isolation: Isolation) -> list[str]:
    if isolation == "limits":
        return []
    user = [] if isolation == "root" else ["--map-root-user"]
    return ["unshare", *user, *_NAMESPACES, "--"]


def _make_order(program: str, limits: Limits, isolation: Isolation, work: Path, nonce: str) -> dict[str, Any]:
    return {
        "program": program,
        "nonce": nonce,
        "work": str(work),
        "isolate_files": isolation != "limits",
        "max_file_bytes": limits.max_file_bytes,
        # A user id of its own for each run: the kernel counts processes per user, and never counts root's.
        "uid": 100_000 + secrets.randbelow(1 << 20) if isolation == "root" else 0,
        "limits": {
            "RLIMIT_CPU": limits.cpu_seconds,
            "RLIMIT_AS": limits.memory_bytes,
            "RLIMIT_NPROC": limits.max_processes,
            "RLIMIT_FSIZE": limits.max_file_bytes,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_CORE": 0,
        },
    }


def _feed_and_wait(process: subprocess.Popen[bytes], order: bytes, wall_seconds: float) -> bool:
    """Hand over the order and wait; True when the time ran out. The whole group is dead afterwards."""
    try:
        process.communicate(order, timeout=wall_seconds)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read_verdict(path: Path, nonce: str, returncode: int) -> RunResult:
    with path.open("rb") as file:
        text = file.read(_MAX_VERDICT_BYTES)
    try:
        verdict = json.loads(text)
    except ValueError:
        return RunResult(False, _describe_death(returncode))
    if "setup_error" in verdict:
        raise SandboxError(verdict["setup_error"])
    if verdict.get("nonce") != nonce:
        return RunResult(False, "the program forged its verdict")
    return RunResult(bool(verdict["ok"]), verdict["error"])


def _describe_death(returncode: int) -> str:
    if returncode == 0:
        return "left before the end of the program"
    return "killed: CPU time or memory limit, or by its own hand"
