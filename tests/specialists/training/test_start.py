"""A run that begins with another run's adapter: its first loss is that adapter's last, and nothing else begins there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.training.adapter_folder import TRAINING_FILE
from specialists.training.checkpoint import CheckpointError
from specialists.training.recipe import RecipeError
from specialists.training.run import train
from specialists.training.run_folders import Folders
from tests.specialists.training.tiny_run import RECIPE, read_metrics


def second_pass(recipe: Path, folders: Folders, start: str = "adapter", lora: str = "rank = 4") -> Folders:
    recipe.write_text(RECIPE.replace("rank = 4", f'{lora}\nstart = "{start}"'))
    return replace(folders, data=(*folders.data, folders.out.parent), out=folders.out.with_name("second"))


def test_a_second_pass_begins_where_the_first_ended(folders: Folders, recipe: Path) -> None:
    first = train(recipe, folders, dtype=torch.float32)
    again = second_pass(recipe, folders)
    train(recipe, again, dtype=torch.float32)
    assert read_metrics(again)[0]["validation_loss"] == pytest.approx(first.best_loss, abs=1e-4)
    before, after = (load_file(one.out / WEIGHTS_FILE) for one in (folders, again))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert '"start_sha256": "' in (again.out / TRAINING_FILE).read_text()
    assert '"start_sha256": null' in (folders.out / TRAINING_FILE).read_text()


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ("rank = 2\nalpha = 8", r"down_proj\.lora_A\.weight is 4 x \d+, expected 2 x \d+"),
        ('rank = 4\ntargets = ["q_proj"]', r"down_proj\.lora_A\.weight is 4 x \d+, expected absent"),
        ("rank = 4\nfirst_layer = 1", r"layers\.0\..* is 4 x \d+, expected absent"),
    ],
)
def test_another_shape_is_refused(folders: Folders, recipe: Path, lora: str, message: str) -> None:
    train(recipe, folders, dtype=torch.float32)
    again = second_pass(recipe, folders, lora=lora)
    with pytest.raises(RecipeError, match=message):
        train(recipe, again, dtype=torch.float32)
    assert not again.out.exists()


def test_what_is_not_there_or_no_adapter_is_named(folders: Folders, recipe: Path) -> None:
    again = second_pass(recipe, folders, start="nowhere")
    with pytest.raises(RecipeError, match=r"lora\.start: no adapter at .*nowhere.* or .*nowhere"):
        train(recipe, again)
    (folders.out.parent / "torn").mkdir()
    (folders.out.parent / "torn" / WEIGHTS_FILE).write_bytes(b"half")
    with pytest.raises(RecipeError, match=r"torn.* cannot be read"):
        train(recipe, second_pass(recipe, folders, start="torn"))


@pytest.mark.slow
def test_a_checkpoint_is_not_continued_from_another_start(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe, folders, dtype=torch.float32)
    again = second_pass(recipe, folders)
    with monkeypatch.context() as patch:
        patch.setattr(
            "specialists.training.run.write_adapter", lambda *args: (_ for _ in ()).throw(KeyError())
        )
        with pytest.raises(KeyError):
            train(recipe, again, dtype=torch.float32)
    recipe.with_name("other.toml").write_text(RECIPE.replace("seed = 5", "seed = 6"))
    other = replace(folders, out=folders.out.with_name("other"))
    train(recipe.with_name("other.toml"), other, dtype=torch.float32)
    (folders.out / WEIGHTS_FILE).write_bytes((other.out / WEIGHTS_FILE).read_bytes())
    with pytest.raises(CheckpointError, match="another recipe, other data or another start"):
        train(recipe, again, dtype=torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_alpha": 8}, "scales its products by 2; alpha, rank and use_rslora of the recipe make 4"),
        ({"use_rslora": True}, "scales its products by 8;"),
    ],
)
@pytest.mark.slow
def test_another_scaling_is_refused(
    folders: Folders, recipe: Path, changes: dict[str, object], message: str
) -> None:
    train(recipe, folders, dtype=torch.float32)
    path = folders.out / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(RecipeError, match=message):
        train(recipe, second_pass(recipe, folders), dtype=torch.float32)


def test_an_adapter_of_another_base_is_refused(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe, folders, dtype=torch.float32)
    path = folders.out / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_sha256": "a" * 64}))
    monkeypatch.setattr("specialists.training.run.base_sha256", lambda folder: "b" * 64)
    with pytest.raises(RecipeError, match=r"was trained on the base a{64}, this one is b{64}"):
        train(recipe, second_pass(recipe, folders), dtype=torch.float32)
