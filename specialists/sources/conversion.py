"""Run the conversion of a GGUF file in a process of its own, and say in one sentence what came of it."""

import subprocess
import sys
from pathlib import Path

from specialists.sources.disk import disk_full
from specialists.sources.errors import BaseModelError
from specialists.sources.local import BASE_MODEL_TYPES, check_model_folder
from specialists.sources.progress import Progress

_PROGRAM = Path(__file__).with_name("convert_gguf.py")


def convert_gguf(source: Path, target: Path, progress: Progress) -> None:
    """Fill the empty folder `target` with the bf16 safetensors and the tokenizer of a GGUF file.

    Raises BaseModelError when the file cannot be read or is of another architecture, SourceError when the
    disk is full.
    """
    task = f"importing {source.name}"
    progress.start(task, None)
    process = subprocess.Popen(
        [sys.executable, "-P", str(_PROGRAM), str(source), str(target)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _, complaint = process.communicate()
    except BaseException:  # Ctrl-C: it must be gone before its folder is removed
        process.kill()
        process.wait()
        raise
    finally:
        progress.finish(task)
    if process.returncode != 0:
        raise _failure(source, target, process.returncode, complaint)
    check_model_folder(target, BASE_MODEL_TYPES)


def _failure(source: Path, target: Path, returncode: int, complaint: str) -> Exception:
    if "No space left on device" in complaint:
        return disk_full(target.parent)
    if returncode < 0:
        return BaseModelError(f"importing {source} was killed by signal {-returncode} (out of memory?)")
    lines = complaint.strip().splitlines() or [f"exit code {returncode}"]
    return BaseModelError(f"cannot import {source}: {lines[-1]}")
