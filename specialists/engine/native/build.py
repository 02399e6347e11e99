"""Compiles the kernels for this processor, once: the result is kept under a name that changes with all it depends on."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.cpp")
_SOURCES = (SOURCE, *sorted(SOURCE.parent.glob("*.h")))
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fopenmp",  # the same libgomp as torch's, already loaded: one pool of threads, not two
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)
_COMPILERS = ("g++", "c++", "clang++")
_COMPILE_SECONDS = 120


class BuildError(RuntimeError):
    """The kernels cannot be compiled here; the message says why."""


def build_kernels(folder: Path, architecture: str = "native") -> Path:
    """The compiled kernels in `folder`, made if they are not there. Takes seconds the first time. Raises BuildError.

    `architecture` is the compiler's name for the processor to compile for; it must be able to run here.
    """
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise BuildError(f"no C++ compiler was found (looked for {', '.join(_COMPILERS)})")
    command = [compiler, f"-march={architecture}", *_FLAGS]
    library = folder / f"kernels-{_fingerprint(command)}.so"
    if not library.exists():
        _compile(command, library)
    return library


def _fingerprint(command: list[str]) -> str:
    """Changes with the source, the flags, the compiler and the processor: a cache folder may move between machines."""
    digest = hashlib.sha256()
    for source in _SOURCES:
        digest.update(source.read_bytes())
    digest.update(" ".join(command).encode())
    digest.update(_run([command[0], "--version"]).encode())
    digest.update(_processor().encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return " ".join(os.uname())
    described = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return "\n".join(sorted(described))


def _compile(command: list[str], library: Path) -> None:
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".compile-") as scratch:
            made = Path(scratch) / library.name
            _run([*command, "-o", str(made), str(SOURCE)])
            made.replace(library)  # whole or not at all, and two starting servers do not mind each other
    except OSError as error:
        raise BuildError(f"{library.parent} cannot be written: {error.strerror or error}") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} could not be run: {error}") from error
    if done.returncode != 0:
        raise BuildError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout
