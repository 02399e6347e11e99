"""`polymath train`, `merge` and `publish` from the command line, on a tiny base."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app
from specialists.evaluation.task_registry import TASKS
from specialists.manifest import read_manifest
from tests.server.tiny import TINY_LIMITS, write_adapter
from tests.specialists.training.toy_task import EarlyLetters

runner = CliRunner()

RECIPE = """
name = "early"
base = "tiny"
seed = 5
[[sources]]
path = "rows.jsonl"
templates = ["{question}"]
[optimizer]
lr = 2e-2
[batching]
epochs = 3
step_tokens = 300
pack_tokens = 160
max_seq_len = 120
[validation]
share = 0.1
[search]
trials = 1
share = 1.0
[gate]
own = ["early"]
[manifest]
description = "Letters."
intent = "letters"
examples = ["Say 3!"]
"""


@pytest.fixture
def home(tmp_path: Path, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, a recipe, and the tiny base as the settings' own."""
    rows = [{"question": f"Say {n}!", "completion": "a be cab"} for n in range(100, 140)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "early.toml").write_text(RECIPE)
    (tmp_path / "early.about.md").write_text("Taught to say early letters.")
    config = {
        **TINY_LIMITS,
        "base": str(tiny_qwen2),
        "data": str(tmp_path / "data"),
        "catalog": str(tmp_path / "catalog"),
        "home": str(tmp_path / "cache"),
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.items()]
    (tmp_path / "polymath.toml").write_text("\n".join(lines))
    (tmp_path / "catalog").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TASKS, "early", EarlyLetters)
    return tmp_path


def run(*arguments: str, fails: bool = False) -> str:
    result = runner.invoke(app, [*arguments, "--config", "polymath.toml"], catch_exceptions=False)
    assert (result.exit_code == 1) is fails, result.output
    return result.output


def train() -> None:
    run("train", "specialist", "early.toml", "--out", "runs/early")


def test_a_specialist_is_trained_judged_and_published(home: Path) -> None:
    train()
    folder = home / "runs" / "early"
    assert read_manifest(folder).intent == "letters"
    assert (home / "runs" / "early.run" / "loss.png").exists()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "base_sha256": "b" * 64}))
    said = run("publish", "runs/early", "--about", "early.about.md")
    assert "own domain: +" in said and "published:" in said
    published = home / "catalog" / "early"
    assert read_manifest(published).scores["early/test"] > 0.5
    assert "Taught to say early letters." in (published / "README.md").read_text()
    again = run("publish", "runs/early", "--about", "early.about.md")
    assert "beside the published version: +0.0 points" in again
    assert list((home / "runs/early.reports/published").glob("early*_early.json"))
    declared = json.loads((published / "manifest.json").read_text())
    (published / "manifest.json").write_text(json.dumps({**declared, "base_sha256": "c" * 64}))
    assert "beside the published version" not in run("publish", "runs/early", "--about", "early.about.md")


def test_what_gains_nothing_is_refused(home: Path) -> None:
    train()
    folder = home / "runs" / "early"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "base_sha256": "b" * 64}))
    stricter = RECIPE.replace('own = ["early"]', 'own = ["early"]\nmin_gain = 0.99')
    (home / "early.toml").write_text(stricter)
    said = run("publish", "runs/early", "--about", "early.about.md", "--gate", "early.toml", fails=True)
    assert "is refused: on its own domain it gains" in said
    assert list((home / "catalog").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seed = 5", "sed = 5"), "unknown key sed; did you mean seed?"),
        (("rows.jsonl", "none.jsonl"), "no data file 'none.jsonl' in"),
        (('base = "tiny"', 'base = "tiny"\nmethod = "distill"'), "the teacher 'teacher' cannot be used"),
    ],
)
def test_a_bad_recipe_is_one_sentence(home: Path, change: tuple[str, str], said: str) -> None:
    (home / "early.toml").write_text(RECIPE.replace(*change))
    output = run("train", "specialist", "early.toml", fails=True)
    assert said in output
    assert "polymath: " in output and "Traceback" not in output
    assert not (home / "runs" / "early").exists()


@pytest.mark.slow
def test_a_begun_run_asks_for_resume(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train()
    (home / "runs" / "early").rename(home / "runs" / "kept")
    output = run("train", "specialist", "early.toml", "--out", "runs/early", fails=True)
    assert "--resume continues it" in output
    run("train", "specialist", "early.toml", "--out", "runs/early", "--resume")


def test_without_a_data_folder_the_way_out_is_told(home: Path) -> None:
    lines = (home / "polymath.toml").read_text().splitlines()
    (home / "polymath.toml").write_text("\n".join(line for line in lines if not line.startswith("data")))
    output = run("train", "specialist", "early.toml", fails=True)
    assert "no data folder: give --data, or set POLYMATH_DATA" in output
    output = run("train", "specialist", "early.toml", "--data", "gone", fails=True)
    assert "the data folder gone does not exist" in output


def test_the_search_prints_settings_for_the_recipe(home: Path) -> None:
    output = run("train", "search", "early.toml", "--out", "runs/search")
    assert "[optimizer]\nlr = " in output and "step_tokens" in output


def test_adapters_are_merged(home: Path, tiny_qwen2: Path) -> None:
    for seed in (1, 2):
        write_adapter(home / "runs" / f"one-{seed}", tiny_qwen2, intent=None, seed=seed)
    said = run("merge", "runs/one-1", "runs/one-2", "--name", "both", "--method", "svd", "--rank", "6")
    assert "merged: runs/both" in said
    assert read_manifest(home / "runs" / "both").name == "both"
    said = run("merge", "runs/one-1", "runs/one-2", "--name", "both", fails=True)
    assert "runs/both exists already" in said
