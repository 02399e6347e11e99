"""`polymath pull`: what it prints, that it is quick when all is there, and that errors are sentences."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from server.pull import TerminalProgress, run_pull
from specialists.base_model import BaseModelError

LOOK_PROGRAM = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from server.pull import run_pull
run_pull(Path(sys.argv[1]), sys.argv[2], sys.argv[3], quiet=True)
assert not {"torch", "transformers", "huggingface_hub"} & set(sys.modules)
print(time.perf_counter() - started)
"""


def test_nothing_to_do_is_quick_and_quiet(tiny_qwen2: Path, tiny_encoder: Path, tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    arguments = [str(tmp_path), str(tiny_qwen2), str(tiny_encoder)]
    done = subprocess.run(
        [sys.executable, "-c", LOOK_PROGRAM, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.stderr == ""
    # Far above what it takes (0.2 s): importing torch or hashing the weights would not fit in.
    assert float(done.stdout) < 2.0


def test_says_where_the_models_are(
    tiny_qwen2: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run_pull(tmp_path, str(tiny_qwen2), str(tiny_encoder))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [f"base model ready: {tiny_qwen2}", f"encoder ready: {tiny_encoder}"]


def test_error_is_one_sentence(tiny_qwen2: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_qwen2, tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BaseModelError, match=rf"{folder}/tokenizer\.json is missing") as raised:
        run_pull(tmp_path, str(folder), "default")
    assert "\n" not in str(raised.value)


def test_plain_lines_where_there_is_no_terminal():
    console = Console(file=io.StringIO(), soft_wrap=True)
    with TerminalProgress(console, bars=False) as progress:
        progress.start("part 1 of 2", 82_000_000)
        progress.move_to("part 1 of 2", 41_000_000)
        progress.finish("part 1 of 2")
        progress.start("importing [x].gguf", None)
        progress.notice("hub: not available [Errno 1]")
    assert console.file.getvalue().splitlines() == [
        "part 1 of 2 (82 MB)",
        "importing [x].gguf",
        "hub: not available [Errno 1]",
    ]


def test_bars_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with TerminalProgress(console, bars=True) as progress:
        progress.start("all [parts]", 1000)
        progress.start("part 1", 500)
        progress.move_to("part 1", 250)
        progress.move_to("all [parts]", 250)
        progress.notice("a notice")
        progress.finish("part 1")
        progress.start("importing", None)
    printed = console.file.getvalue()
    assert "a notice" in printed
    assert "all [parts]" in printed
    assert "importing" in printed


@pytest.mark.weights
def test_real_cache_needs_nothing(polymath_home: Path, capsys: pytest.CaptureFixture[str]):
    run_pull(polymath_home, "default", "default", quiet=True)
    assert capsys.readouterr().err == ""
