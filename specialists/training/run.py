"""One training run, whatever its method: from a recipe file to an adapter folder.

While it runs, `<out>.run/` holds the checkpoint, `metrics.jsonl`, `loss.png` and what the method caches; a killed run
continues from there. `<out>` appears when the run is complete, all at once: adapter_config.json,
adapter_model.safetensors, manifest.json, recipe.toml, training.json.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from specialists.base_model import base_name, base_sha256
from specialists.evaluation.provenance import describe_machine
from specialists.tokenizer import ChatTokenizer
from specialists.training.adapter_folder import write_adapter
from specialists.training.checkpoint import CHECKPOINT_FILE
from specialists.training.distill_setup import build_distillation
from specialists.training.grpo_setup import build_grpo
from specialists.training.loop import Plan, Trainer, TrainingError, TrainingResult
from specialists.training.lora import load_trainable
from specialists.training.method import Method
from specialists.training.plot import plot_metrics
from specialists.training.recipe import Recipe, RecipeError, read_recipe
from specialists.training.rows import TrainingRows
from specialists.training.run_folders import FindModel, Folders
from specialists.training.sections import Batching, Optimizer
from specialists.training.setting import Setting
from specialists.training.sft import SupervisedMethod, build_schedule
from specialists.training.start import begin_with


def train(
    recipe_path: Path,
    folders: Folders,
    *,
    find_model: FindModel = Path,
    resume: bool = True,
    dtype: torch.dtype = torch.bfloat16,
) -> TrainingResult:
    """Run the recipe and write the adapter to `folders.out`. Without `resume`, a begun run is refused.

    Raises TrainingError when the disk refuses, RecipeError, DataError, TaskDataError, CheckpointError, TeacherError;
    `out` does not exist then.
    """
    recipe = read_recipe(recipe_path)
    _check_folders(recipe, folders, resume)
    try:
        return _train(recipe, recipe_path, folders, find_model, dtype)
    except OSError as error:
        raise TrainingError(f"{error}; nothing was written to {folders.out}") from error


def _check_folders(recipe: Recipe, folders: Folders, resume: bool) -> None:
    if folders.out.exists():
        raise TrainingError(f"{folders.out} exists already; choose another folder or remove it")
    if not resume and any(folders.run.rglob(CHECKPOINT_FILE)):
        raise TrainingError(f"{folders.run} holds an interrupted run: --resume continues it, or delete it")
    name = base_name(folders.base)
    if name is not None and name != recipe.base:
        raise RecipeError(f"the recipe is for the base {recipe.base!r}, found {name!r} in {folders.base}")


def _train(
    recipe: Recipe, recipe_path: Path, folders: Folders, find_model: FindModel, dtype: torch.dtype
) -> TrainingResult:
    setting = Setting(
        recipe=recipe,
        folders=folders,
        tokenizer=ChatTokenizer.from_folder(folders.base),
        model=load_trainable(
            folders.base, recipe.lora, recipe.seed, dtype, recipe.quantization, folders.kernels
        ),
        dtype=dtype,
        find_model=find_model,
    )
    start = None
    if recipe.lora.start is not None:
        start = begin_with(setting.model, recipe.lora.start, folders.data, base_sha256(folders.base))
    if recipe.pretask is not None:
        stage = recipe.pretask
        rows = TrainingRows(stage.sources, folders.data, recipe.validation, recipe.seed)
        pretask = _supervised(setting, rows, stage.batching)
        _run_stage(setting, "pretask", pretask, {**_count(rows), "start_sha256": start}, stage.optimizer)
    method, facts = _build_method(setting)
    facts["start_sha256"] = start
    result = _run_stage(setting, "", method, facts, recipe.optimizer)
    facts = {**asdict(result), **facts, "machine": describe_machine()}
    write_adapter(setting.model, recipe, recipe_path, folders.base, folders.out, facts)
    return result


def _run_stage(
    setting: Setting, stage: str, method: Method, facts: dict[str, Any], optimizer: Optimizer
) -> TrainingResult:
    recipe = setting.recipe
    plan = Plan(
        title=f"training {recipe.name}" + (f" ({stage})" if stage else ""),
        run_id=_run_id(recipe, facts, stage),
        optimizer=optimizer,
        validation=recipe.validation,
        checkpoint_every_steps=recipe.checkpoint_every_steps,
    )
    folder = setting.folders.run / stage
    try:
        return Trainer(method, plan, folder).run()
    finally:
        plot_metrics(folder)


def _run_id(recipe: Recipe, facts: dict[str, Any], stage: str) -> str:
    """What a checkpoint belongs to: the settings, the data, and the weights that the run began with."""
    start = facts["start_sha256"]
    return f"{recipe.fingerprint()}/{facts['data_sha256']}/{stage}" + (f"/{start}" if start else "")


def _build_method(setting: Setting) -> tuple[Method, dict[str, Any]]:
    """The recipe's method, and what the adapter's `training.json` says about its data."""
    recipe = setting.recipe
    if recipe.method == "grpo":
        return build_grpo(setting)
    rows = TrainingRows(recipe.sources, setting.folders.data, recipe.validation, recipe.seed)
    if recipe.method == "distill":
        return build_distillation(setting, rows), _count(rows)
    return _supervised(setting, rows, recipe.batching), _count(rows)


def _supervised(setting: Setting, rows: TrainingRows, batching: Batching) -> SupervisedMethod:
    recipe = setting.recipe
    schedule = build_schedule(batching, recipe.seed, rows, setting.tokenizer)
    return SupervisedMethod(setting.model, schedule, setting.tokenizer, recipe.shortcut)


def _count(rows: TrainingRows) -> dict[str, Any]:
    return {
        "num_train_rows": len(rows.train(0)),
        "num_validation_rows": len(rows.validation),
        "data_sha256": rows.sha256(),
    }
