"""An adapter that another run made, as the beginning of this one: a second pass, or GRPO after supervised tuning."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from specialists.adapters.checkpoint import read_folder_manifest
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.adapters.peft_config import scaling_of
from specialists.training.lora import TrainableModel
from specialists.training.recipe import RecipeError


def begin_with(model: TrainableModel, name: str, folders: Sequence[Path], base: str | None) -> str:
    """Put the weights of the adapter folder `name` (absolute, or below one of `folders`) into `model`; their sha256.

    Raises RecipeError when there is no such adapter, it cannot be read, it has other matrices or another scaling than the
    recipe's, or its manifest says that it was trained on another base than the one whose sha256 is `base`.
    """
    path = _find(name, folders)
    try:
        tensors = load_file(path)
        scaling = _scaling(json.loads((path.parent / CONFIG_FILE).read_bytes()))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise RecipeError(f"lora.start: {path.parent} cannot be read: {error}") from error
    if scaling != model.scaling:
        raise RecipeError(
            f"lora.start: {path.parent} scales its products by {scaling:g}; alpha, rank and use_rslora of the recipe make "
            f"{model.scaling:g}"
        )
    _check_base(path.parent, base)
    parameters = model.saved_parameters()
    _check(path, tensors, parameters)
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensors[key])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_base(folder: Path, base: str | None) -> None:
    trained_on = read_folder_manifest(folder).base_sha256
    if None not in (trained_on, base) and trained_on != base:
        raise RecipeError(f"lora.start: {folder} was trained on the base {trained_on}, this one is {base}")


def _scaling(config: Mapping[str, Any]) -> float:
    return scaling_of(config["lora_alpha"], config["r"], bool(config.get("use_rslora")))


def _find(name: str, folders: Sequence[Path]) -> Path:
    paths = [folder / name / WEIGHTS_FILE for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise RecipeError(f"lora.start: no adapter at {' or '.join(map(str, paths))}")
    return found


def _check(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for key in sorted(found.keys() | expected.keys()):
        shapes = [tuple(side[key].shape) if key in side else None for side in (found, expected)]
        if shapes[0] != shapes[1]:
            raise RecipeError(
                f"lora.start: {path} has another shape than the recipe's rank, targets or first_layer make: {key} is "
                f"{_say(shapes[0])}, expected {_say(shapes[1])}"
            )


def _say(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape))
