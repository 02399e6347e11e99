"""The search on a tiny model: reproducible trials, resumed after a kill, ranked by cross-validation."""

import json
import tomllib
from pathlib import Path

import pytest
import torch

from specialists.tokenizer import ChatTokenizer
from specialists.training import search
from specialists.training.data import DataError
from specialists.training.method_sections import Search
from specialists.training.recipe import RecipeError, read_recipe
from specialists.training.rows import TrainingRows
from specialists.training.run_folders import Folders
from specialists.training.search import LOG_FILE, draw_folds, draw_trial, search_settings

RECIPE = """
name = "tiny-search"
base = "tiny"
seed = 5
[[sources]]
path = "rows.jsonl"
templates = ["{question}"]
[batching]
pack_tokens = 160
max_seq_len = 120
[validation]
share = 0.0
[search]
trials = 3
share = 0.5
folds = 2
lr = [1e-5, 1e-2]
rank = [2, 4]
step_tokens = [200, 400]
epochs = [1, 2]
"""


@pytest.fixture
def folders(tmp_path: Path, tiny_qwen2: Path) -> Folders:
    rows = [{"question": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(40)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Folders(base=tiny_qwen2, data=(tmp_path / "data",), out=tmp_path / "out")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


@pytest.mark.slow
def test_the_best_trial_comes_first_and_a_killed_search_goes_on(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = search._train_fold, []

    def killed(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return plain(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(search, "_train_fold", killed)
        with pytest.raises(KeyboardInterrupt):
            search_settings(read_recipe(recipe), folders, torch.float32)
    first = (folders.run / LOG_FILE).read_text()
    assert len(first.splitlines()) == 1
    trials = search_settings(read_recipe(recipe), folders, torch.float32)
    assert (folders.run / LOG_FILE).read_text().startswith(first)
    assert [trial.loss for trial in trials] == sorted(trial.loss for trial in trials)
    assert {trial.number for trial in trials} == {0, 1, 2}
    assert all(len(trial.losses) == 2 for trial in trials)
    assert "lr = " in trials[0].settings()
    assert [path.name for path in folders.run.iterdir()] == [LOG_FILE]
    recipe.write_text(RECIPE.replace("seed = 5", "seed = 6"))
    with pytest.raises(RecipeError, match=r"search\.jsonl is of another recipe"):
        search_settings(read_recipe(recipe), folders)


def test_folds_share_no_prompt_and_are_a_part_of_the_data(folders: Folders, recipe: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(folders.base)
    one, other = draw_folds(read_recipe(recipe), read_rows(recipe, folders), tokenizer)
    assert len(one) == len(other) == 10
    assert {group.prompt_ids for group in one}.isdisjoint(group.prompt_ids for group in other)
    recipe.write_text(RECIPE.replace("share = 0.5", "share = 0.01"))
    with pytest.raises(DataError, match="40 prompts are 1, fewer than the 2 folds"):
        draw_folds(read_recipe(recipe), read_rows(recipe, folders), tokenizer)


def read_rows(path: Path, folders: Folders) -> TrainingRows:
    recipe = read_recipe(path)
    return TrainingRows(recipe.sources, folders.data, recipe.validation, recipe.seed)


def test_other_data_is_another_search(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_train_fold", lambda *arguments: 1.0)
    assert len(search_settings(read_recipe(recipe), folders)) == 3
    rows = folders.data[0] / "rows.jsonl"
    rows.write_text(rows.read_text().replace("It is", "That is"))
    with pytest.raises(RecipeError, match=r"search\.jsonl is of another recipe or other data"):
        search_settings(read_recipe(recipe), folders)


def test_what_is_printed_is_what_was_tried() -> None:
    trial = draw_trial(Search(rank=(16,)), 7, 0)
    assert trial.alpha == 32
    settings = tomllib.loads(trial.settings())
    assert settings["lora"] == {"rank": 16, "alpha": 32}


def test_a_pretask_is_refused(folders: Folders, recipe: Path) -> None:
    recipe.write_text(RECIPE + '[pretask]\nsources = [{ path = "rows.jsonl" }]\n')
    with pytest.raises(RecipeError, match="remove pretask"):
        search_settings(read_recipe(recipe), folders)


def test_a_trial_depends_on_its_number_alone() -> None:
    settings = Search(lr=(1e-4, 1e-3), rank=(2, 4, 8))
    trials = [draw_trial(settings, 7, number) for number in range(30)]
    assert trials == [draw_trial(settings, 7, number) for number in range(30)]
    assert all(1e-4 <= trial.lr <= 1e-3 for trial in trials)
    assert {trial.rank for trial in trials} == {2, 4, 8}
    assert len({trial.lr for trial in trials}) == 30


def test_other_methods_are_refused(folders: Folders, recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("seed = 5", 'seed = 5\nmethod = "distill"'))
    with pytest.raises(RecipeError, match="method = \"sft\", found 'distill'"):
        search_settings(read_recipe(recipe), folders)


def test_an_adapter_to_begin_with_is_refused(folders: Folders, recipe: Path) -> None:
    recipe.write_text(RECIPE + '[lora]\nstart = "math"\n')
    with pytest.raises(RecipeError, match=r"remove lora\.start"):
        search_settings(read_recipe(recipe), folders)
