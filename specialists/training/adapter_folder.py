"""How a finished adapter reaches its folder: written beside it, synced, renamed; nobody ever sees half of one."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from specialists.base_model import base_sha256
from specialists.evaluation.provenance import current_commit
from specialists.manifest import MANIFEST_FILE, SpecialistManifest
from specialists.sources.disk import sync_file
from specialists.training.lora import TrainableModel
from specialists.training.recipe import Recipe

TRAINING_FILE = "training.json"
RECIPE_FILE = "recipe.toml"


class AdapterFolderError(ValueError):
    """A folder that is in the way; the message names it."""


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill that becomes `out` when the block ends well, and is removed when it does not.

    Raises AdapterFolderError when `out` is there already, OSError when the disk refuses.
    """
    if out.exists():
        raise AdapterFolderError(f"{out} exists already; choose another folder or remove it")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        sync_folder(partial)
        partial.rename(out)
        sync_file(out.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until the folder's files and names are on the disk."""
    for path in folder.iterdir():
        sync_file(path)
    sync_file(folder)


def write_adapter(
    model: TrainableModel, recipe: Recipe, recipe_path: Path, base: Path, out: Path, facts: dict[str, Any]
) -> None:
    """Write the adapter with its manifest, recipe and training facts. Raises OSError; `out` is whole or absent."""
    manifest = SpecialistManifest(
        name=recipe.name,
        description=recipe.manifest.description,
        intent=recipe.manifest.intent,
        examples=recipe.manifest.examples,
        base_sha256=base_sha256(base),
        recipe=_path_in_repository(recipe_path),
        seed=recipe.seed,
        commit=current_commit(),
        data_sha256=facts["data_sha256"],
    )
    with whole_folder(out) as folder:
        model.save(folder, base_name=recipe.base)
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / TRAINING_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(recipe_path, folder / RECIPE_FILE)


def _path_in_repository(path: Path) -> str:
    root = Path(__file__).resolve().parents[2]
    resolved = path.resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else path.name
