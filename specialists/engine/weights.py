"""Reading a checkpoint's safetensors, checked as they are taken: a missing or misshapen tensor is named."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from specialists.engine.qwen_config import UnsupportedModelError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class WeightReader:
    """Takes tensors out of a checkpoint folder (one file, or shards with an index), on a device and in a type.

    Raises UnsupportedModelError naming the folder, file or tensor when something is not there or not as expected.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._folder = folder
        self._device = device
        self._dtype = dtype
        self._stack = ExitStack()
        self._file_by_tensor: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for path in self._paths():
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt", device="cpu"))
            except (OSError, SafetensorError) as error:
                raise UnsupportedModelError(f"{path} is damaged or missing: {error}") from error
            self._file_by_tensor.update(dict.fromkeys(file.keys(), file))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.take_optional(name, shape)
        if tensor is None:
            raise UnsupportedModelError(f"{self._folder} has no tensor {name}")
        return tensor

    def take_optional(self, name: str, shape: tuple[int, ...]) -> Tensor | None:
        if name not in self._file_by_tensor:
            return None
        tensor: Tensor = self._file_by_tensor[name].get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise UnsupportedModelError(
                f"{self._folder}: tensor {name} has the shape {tuple(tensor.shape)}, expected {shape}"
            )
        return tensor.to(device=self._device, dtype=self._dtype)

    def _paths(self) -> list[Path]:
        index = self._folder / INDEX_FILE
        if not index.exists():
            return [self._folder / SINGLE_FILE]
        names = json.loads(index.read_text())["weight_map"].values()
        return [self._folder / name for name in sorted(set(names))]
