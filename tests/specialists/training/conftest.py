"""Tiny models on one thread: with more, the threads' hand-over costs more than the work, and far more when
the machine is busy."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from specialists.training.run_folders import Folders
from tests.specialists.training.tiny_run import RECIPE


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def folders(tmp_path: Path, tiny_qwen2: Path) -> Folders:
    rows = [
        {"question": f"What is {n} and {n}?", "completion": f"It is {text} {2 * n}."}
        for n in range(20)
        for text in ("just", "surely")
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Folders(base=tiny_qwen2, data=(tmp_path / "data",), out=tmp_path / "adapter")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path
