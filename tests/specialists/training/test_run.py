"""A whole run on a tiny model: it learns, continues exactly after a kill, stops early, publishes whole or not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from specialists.adapters.registry import AdapterRegistry
from specialists.engine.qwen_config import read_qwen_config
from specialists.manifest import read_manifest
from specialists.tokenizer import ChatTokenizer
from specialists.training import sft
from specialists.training.adapter_folder import TRAINING_FILE
from specialists.training.checkpoint import CHECKPOINT_FILE
from specialists.training.data import DataError
from specialists.training.loop import Plan, Trainer, TrainingError
from specialists.training.lora import TrainableModel, load_trainable
from specialists.training.recipe import RecipeError, read_recipe
from specialists.training.rows import TrainingRows
from specialists.training.run import train
from specialists.training.run_folders import Folders
from specialists.training.sft import SupervisedMethod, build_schedule
from tests.specialists.training.tiny_run import RECIPE, read_metrics


def test_a_run_learns_and_publishes_an_adapter_that_serves(folders: Folders, recipe: Path) -> None:
    result = train(recipe, folders, dtype=torch.float32)
    losses = [row["validation_loss"] for row in read_metrics(folders) if "validation_loss" in row]
    assert losses[-1] < losses[0] - 1.0
    assert result.best_loss == pytest.approx(min(losses), abs=1e-4)
    steps = [row for row in read_metrics(folders) if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, result.num_steps + 1))
    assert {"lr", "grad_norm", "tokens", "unshared_tokens", "tokens_per_second", "peak_memory_mb"} <= steps[
        0
    ].keys()

    names = {path.name for path in folders.out.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "recipe.toml"} <= names
    manifest = read_manifest(folders.out)
    assert (manifest.name, manifest.intent, manifest.seed) == ("tiny-math", "math", 5)
    adapter = AdapterRegistry(read_qwen_config(folders.base)).load(folders.out)
    assert adapter.rank == 4


class KilledError(Exception):
    pass


def make_trainer(folders: Folders, recipe_path: Path) -> Trainer:
    recipe = read_recipe(recipe_path)
    tokenizer = ChatTokenizer.from_folder(folders.base)
    rows = TrainingRows(recipe.sources, folders.data, recipe.validation, recipe.seed)
    schedule = build_schedule(recipe.batching, recipe.seed, rows, tokenizer)
    model = load_trainable(folders.base, recipe.lora, recipe.seed)
    plan = Plan(
        title="test",
        run_id="run",
        optimizer=recipe.optimizer,
        validation=recipe.validation,
        checkpoint_every_steps=recipe.checkpoint_every_steps,
    )
    return Trainer(SupervisedMethod(model, schedule, tokenizer), plan, folders.run)


def test_a_killed_run_continues_exactly(folders: Folders, recipe: Path, tmp_path: Path) -> None:
    whole_folders = Folders(base=folders.base, data=folders.data, out=tmp_path / "whole")
    whole = make_trainer(whole_folders, recipe)
    whole.run()

    def kill_at_five(step: int) -> None:
        if step == 5:  # one step beyond the checkpoint of step 4: that step is done again
            raise KilledError

    with pytest.raises(KilledError):
        make_trainer(folders, recipe).run(kill_at_five)
    continued = make_trainer(folders, recipe)
    continued.run()

    for name, parameter in whole.method.parameters.items():
        assert torch.equal(parameter, continued.method.parameters[name]), name
    timeless = [
        [
            {k: v for k, v in row.items() if k not in {"seconds", "tokens_per_second", "peak_memory_mb"}}
            for row in rows
        ]
        for rows in (read_metrics(whole_folders), read_metrics(folders))
    ]
    assert timeless[0] == timeless[1]


def test_training_stops_when_validation_no_longer_improves(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    monkeypatch.setattr(sft, "validation_loss", lambda model, packs: next(losses))
    recipe.write_text(RECIPE.replace("every_steps = 3", "every_steps = 1\npatience = 3"))
    result = train(recipe, folders)
    assert (result.num_steps, result.best_step, result.best_loss) == (4, 1, 2.0)
    assert result.stopped_early
    best = torch.load(folders.run / CHECKPOINT_FILE, weights_only=True)["state"]["progress"]["best_weights"]
    saved = load_file(folders.out / "adapter_model.safetensors")
    for name, weight in best.items():
        assert torch.equal(saved[name.replace(".default.", ".")], weight.bfloat16())


def test_a_run_may_keep_its_last_weights_whatever_the_looks_say(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = (float(look) for look in range(1, 1000))
    monkeypatch.setattr(sft, "validation_loss", lambda model, packs: next(losses))
    recipe.write_text(RECIPE.replace("every_steps = 3", 'every_steps = 1\npatience = 1\nkeep = "last"'))
    result = train(recipe, folders)
    assert result.best_step == result.num_steps > 2
    assert not result.stopped_early
    assert result.best_loss == result.num_steps + 1  # the first look is before the first step


def test_a_full_disk_leaves_no_adapter_and_the_run_goes_on_later(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(TrainableModel, "save", no_space)
        with pytest.raises(TrainingError, match="No space left on device; nothing was written"):
            train(recipe, folders)
    assert not folders.out.exists()
    assert [path.name for path in folders.out.parent.glob(".*")] == []
    with pytest.raises(TrainingError, match="holds an interrupted run: --resume continues it"):
        train(recipe, folders, resume=False)
    train(recipe, folders)  # the checkpoint holds the finished run: only the saving is repeated
    assert folders.out.is_dir()


def test_a_loss_that_is_not_finite_ends_the_run(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(folders, recipe)
    next(iter(trainer.method.parameters.values())).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1: the gradient's norm is nan"):
        trainer.run()


def test_an_existing_folder_and_missing_data_are_refused(folders: Folders, recipe: Path) -> None:
    (folders.data[0] / "rows.jsonl").rename(folders.data[0] / "gone.jsonl")
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        train(recipe, folders)
    folders.out.mkdir()
    with pytest.raises(TrainingError, match="exists already"):
        train(recipe, folders)


def test_a_recipe_for_another_base_is_refused(folders: Folders, recipe: Path, tmp_path: Path) -> None:
    base = tmp_path / "other"
    base.mkdir()
    (base / "polymath.json").write_text('{"source": "Qwen-9", "source_sha256": "0", "files": {}}')
    with pytest.raises(RecipeError, match="for the base 'tiny', found 'Qwen-9'"):
        train(recipe, Folders(base=base, data=folders.data, out=folders.out))


@pytest.mark.parametrize("quantization", ["bnb-nf4", "bnb-int8"])
@pytest.mark.slow
def test_quantised_bases_and_eight_bit_adam_learn(folders: Folders, recipe: Path, quantization: str) -> None:
    text = RECIPE.replace("seed = 5", f'seed = 5\nquantization = "{quantization}"')
    recipe.write_text(text.replace("lr = 5e-3", "lr = 5e-3\neight_bit = true"))
    train(recipe, folders)
    losses = [row["validation_loss"] for row in read_metrics(folders) if "validation_loss" in row]
    assert losses[-1] < losses[0] - 1.0


@pytest.mark.slow
def test_a_pretask_comes_first_and_a_kill_between_the_stages_repeats_nothing(
    folders: Folders, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.write_text(
        RECIPE
        + """
[pretask]
sources = [{ path = "rows.jsonl", templates = ["{question}", "Solve: {question}"] }]
optimizer = { lr = 1e-2 }
batching = { epochs = 1, step_tokens = 300, pack_tokens = 160, max_seq_len = 120 }
"""
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            "specialists.training.run._build_method", lambda setting: (_ for _ in ()).throw(KilledError)
        )
        with pytest.raises(KilledError):
            train(recipe, folders)
    first = (folders.run / "pretask" / "metrics.jsonl").read_text()
    train(recipe, folders)
    assert (folders.run / "pretask" / "metrics.jsonl").read_text() == first
    pretask = [json.loads(line) for line in first.splitlines()]
    best = min(row["validation_loss"] for row in pretask if "validation_loss" in row)
    started = read_metrics(folders)[0]["validation_loss"]
    assert started == pytest.approx(best, abs=0.02)  # the task begins where the pre-task was best
    assert (folders.out / TRAINING_FILE).is_file()


def test_rows_that_never_fit_are_an_error(folders: Folders, recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("max_seq_len = 120", "max_seq_len = 8"))
    with pytest.raises(DataError, match="no row fits max_seq_len = 8"):
        train(recipe, folders)
