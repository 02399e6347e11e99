"""Supervised fine-tuning of a LoRA adapter by a recipe.

    python -m specialists.training.sft recipe.toml --base <folder> --data <folder> --out <folder>

--data may be given several times; the folders are searched in turn for the recipe's files. While it runs,
`<out>.run/` holds the checkpoint and `metrics.jsonl`; the same command continues after a kill. `<out>`
appears when the run is complete, all at once: adapter_config.json, adapter_model.safetensors, manifest.json,
recipe.toml, training.json.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from specialists.base_model import base_sha256
from specialists.evaluation.provenance import current_commit, describe_machine
from specialists.manifest import MANIFEST_FILE, SpecialistManifest
from specialists.tokenizer import ChatTokenizer
from specialists.training.data import DataError, Row, find_file, read_source, render_groups, split_rows
from specialists.training.loop import Schedule, Trainer, TrainingResult
from specialists.training.lora import TrainableModel, load_trainable
from specialists.training.packing import Pack, group_into_steps, pack_groups
from specialists.training.recipe import Recipe, read_recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where a run reads and writes. `base` is the imported base model, `out` must not exist yet."""

    base: Path
    data: tuple[Path, ...]
    out: Path

    @property
    def run(self) -> Path:
        return self.out.with_name(f"{self.out.name}.run")


def load_rows(recipe: Recipe, folders: Sequence[Path]) -> tuple[list[Row], list[Row]]:
    """Training and validation rows of all sources. Raises DataError when nothing is left to train on."""
    rows = [row for source in recipe.sources for row in read_source(source, folders, recipe.seed)]
    train, validation = split_rows(rows, recipe.validation.share, recipe.validation.max_rows, recipe.seed)
    if not train:
        raise DataError("no rows are left to train on after the validation split")
    return train, validation


def hash_data(recipe: Recipe, folders: Sequence[Path]) -> str:
    """One sha256 over the recipe's files, in its order."""
    digest = hashlib.sha256()
    for source in recipe.sources:
        digest.update(hashlib.sha256(find_file(source.path, folders).read_bytes()).digest())
    return digest.hexdigest()


def build_schedule(
    recipe: Recipe, train: Sequence[Row], validation: Sequence[Row], tokenizer: ChatTokenizer
) -> Schedule:
    """All steps of all epochs, and the validation packs. Raises DataError when no row fits max_seq_len."""
    steps: list[tuple[Pack, ...]] = []
    for epoch in range(recipe.batching.epochs):
        packs = _pack(recipe, train, tokenizer, epoch)
        steps += group_into_steps(packs, recipe.batching.step_tokens)
    if not steps:
        raise DataError(f"no row fits max_seq_len = {recipe.batching.max_seq_len} tokens")
    validation_packs = _pack(recipe, validation, tokenizer, epoch=0)
    return Schedule(tuple(steps[: recipe.batching.max_steps]), tuple(validation_packs))


def _pack(recipe: Recipe, rows: Sequence[Row], tokenizer: ChatTokenizer, epoch: int) -> list[Pack]:
    groups = render_groups(rows, tokenizer, epoch, recipe.seed, recipe.batching.max_seq_len)
    return pack_groups(groups, recipe.batching.pack_tokens, recipe.seed + epoch)


def train(recipe_path: Path, folders: Folders, dtype: torch.dtype = torch.bfloat16) -> TrainingResult:
    """Run the recipe and publish the adapter in `folders.out`.

    Raises RecipeError, DataError, CheckpointError, TrainingError or OSError; `out` does not exist then.
    """
    recipe = read_recipe(recipe_path)
    if folders.out.exists():
        raise FileExistsError(f"{folders.out} exists already; choose another --out or remove it")
    data_sha256 = hash_data(recipe, folders.data)
    train_rows, validation_rows = load_rows(recipe, folders.data)
    schedule = build_schedule(recipe, train_rows, validation_rows, ChatTokenizer.from_folder(folders.base))
    model = load_trainable(folders.base, recipe.lora, recipe.seed, dtype)
    run_id = f"{recipe.fingerprint()}/{data_sha256}"
    result = Trainer(model, recipe, schedule, folders.run, run_id).run()
    facts = {
        **asdict(result),
        "num_train_rows": len(train_rows),
        "num_validation_rows": len(validation_rows),
        "data_sha256": data_sha256,
        "machine": describe_machine(),
    }
    publish(model, recipe, recipe_path, folders, facts)
    return result


def publish(
    model: TrainableModel, recipe: Recipe, recipe_path: Path, folders: Folders, facts: dict[str, Any]
) -> None:
    """Write the adapter into a temporary folder and rename it to `out`: nobody sees half of one."""
    partial = folders.out.with_name(f".{folders.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save(partial, base_name=recipe.base)
    manifest = SpecialistManifest(
        name=recipe.name,
        description=recipe.manifest.description,
        intent=recipe.manifest.intent,
        examples=recipe.manifest.examples,
        base_sha256=base_sha256(folders.base),
        recipe=_path_in_repository(recipe_path),
        seed=recipe.seed,
        commit=current_commit(),
        data_sha256=facts["data_sha256"],
    )
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (partial / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(recipe_path, partial / "recipe.toml")
    partial.rename(folders.out)


def _path_in_repository(path: Path) -> str:
    root = Path(__file__).resolve().parents[2]
    resolved = path.resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else path.name


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    console = Console(stderr=True)
    torch.manual_seed(0)  # nothing may depend on it; the recipe's seed decides
    folders = Folders(base=options.base, data=tuple(options.data), out=options.out)
    try:
        result = train(options.recipe, folders)
    except (ValueError, OSError, RuntimeError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    why = "stopped early" if result.stopped_early else "all steps done"
    console.print(
        f"{folders.out}: {why} after {result.num_steps} steps; "
        f"best validation loss {result.best_loss:.4f} at step {result.best_step}",
        markup=False,
    )
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune a LoRA adapter by a recipe.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="folder of the imported base")
    parser.add_argument(
        "--data", type=Path, required=True, action="append", help="may be given several times"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter; must not exist yet")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
