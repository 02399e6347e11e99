"""An adapter that another run made, as the beginning of this one: a second pass, or GRPO after supervised tuning."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from specialists.training.lora import ADAPTER_FILE, TrainableModel
from specialists.training.recipe import RecipeError


def begin_with(model: TrainableModel, name: str, folders: Sequence[Path]) -> str:
    """Put the weights of the adapter folder `name` (absolute, or below one of `folders`) into `model`; their sha256.

    Raises RecipeError when there is no such adapter, it cannot be read, or it has other matrices than the recipe's.
    """
    path = _find(name, folders)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RecipeError(f"lora.start: {path} cannot be read: {error}") from error
    parameters = model.saved_parameters()
    _check(path, tensors, parameters)
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensors[key])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _find(name: str, folders: Sequence[Path]) -> Path:
    paths = [folder / name / ADAPTER_FILE for folder in folders]
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
