"""The adapters this server knows: loaded under a name, each load a new immutable generation, counted while in use."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from specialists.adapters.checkpoint import AdapterError, LoraWeights, read_checkpoint
from specialists.adapters.lora import AdapterWeights
from specialists.engine.qwen_config import QwenConfig
from specialists.manifest import ManifestError, SpecialistManifest, read_manifest

RESERVED_NAMES = frozenset({"auto", "base"})


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """One generation of one adapter. Never changes; a replaced adapter is another generation."""

    name: str
    generation: int
    manifest: SpecialistManifest
    weights: AdapterWeights

    @property
    def rank(self) -> int:
        return self.weights.rank

    @property
    def num_bytes(self) -> int:
        return self.weights.num_bytes


class AdapterRegistry:
    """Names to generations, with the number of requests in flight on each. Safe to use from several threads.

    `prepare` turns what was read into what the engine wants (`ModelRunner.prepare`), so that nothing is left to do when an
    adapter comes into a slot.
    """

    def __init__(
        self,
        base: QwenConfig,
        *,
        max_rank: int = 64,
        dtype: torch.dtype = torch.bfloat16,
        prepare: Callable[[LoraWeights], AdapterWeights] | None = None,
    ) -> None:
        self._prepare = prepare
        self._base = base
        self._max_rank = max_rank
        self._dtype = dtype
        self._lock = threading.Lock()
        self._generations = itertools.count(1)  # 0 means the bare base in the engine
        self._current: dict[str, LoadedAdapter] = {}
        self._num_in_flight: Counter[int] = Counter()

    def load(self, folder: Path) -> LoadedAdapter:
        """Read and register the adapter in `folder` under its manifest's name.

        Raises AdapterError naming the folder or file; nothing is registered then.
        """
        try:
            manifest = read_manifest(folder)
        except ManifestError as error:
            raise AdapterError(str(error)) from error
        if manifest.name in RESERVED_NAMES:
            raise AdapterError(f"{folder}: the name {manifest.name!r} is reserved")
        weights = read_checkpoint(folder, self._base, self._max_rank, self._dtype)
        ready = weights if self._prepare is None else self._prepare(weights)
        with self._lock:
            if manifest.name in self._current:
                raise AdapterError(f"{folder}: an adapter named {manifest.name!r} is already loaded")
            adapter = LoadedAdapter(manifest.name, next(self._generations), manifest, ready)
            self._current[manifest.name] = adapter
        return adapter

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._current)

    def get(self, name: str) -> LoadedAdapter:
        """The current generation under `name`. Raises KeyError when there is none."""
        with self._lock:
            return self._current[name]

    def acquire(self, name: str) -> LoadedAdapter:
        """Look up and count one request in, in one step: an unload in between must not be possible."""
        with self._lock:
            adapter = self._current[name]
            self._num_in_flight[adapter.generation] += 1
            return adapter

    def release(self, adapter: LoadedAdapter) -> None:
        """Count one request out."""
        with self._lock:
            assert self._num_in_flight[adapter.generation] > 0, f"{adapter.name} was released once too often"
            self._num_in_flight[adapter.generation] -= 1

    def num_in_flight(self, name: str) -> int:
        with self._lock:
            return self._num_in_flight[self._current[name].generation]


def find_adapter_folders(root: Path) -> list[Path]:
    """The folders directly under `root` that hold something, by name. Raises AdapterError when `root` is no folder."""
    if not root.is_dir():
        raise AdapterError(f"the adapter folder {root} does not exist")
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
