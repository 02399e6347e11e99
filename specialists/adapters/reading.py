"""From a folder to an adapter as the engine wants it, for one base: the first time, and again after an eviction."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from specialists.adapters.checkpoint import Checkpoint, LoraWeights, read_checkpoint, read_folder_manifest
from specialists.adapters.errors import AdapterError
from specialists.adapters.limits import AdapterLimits
from specialists.adapters.loaded import AdapterMemory, LoadedAdapter
from specialists.adapters.lora import AdapterWeights
from specialists.engine.qwen_config import QwenConfig
from specialists.manifest import SpecialistManifest

RESERVED_NAMES = frozenset({"auto", "base"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdapterReader:
    """What an adapter is read for. Every method blocks on the disk."""

    base: QwenConfig
    base_sha256: str | None
    max_rank: int
    dtype: torch.dtype
    prepare: Callable[[LoraWeights], AdapterWeights] | None
    limits: AdapterLimits

    def read_manifest(
        self, folder: Path, given: SpecialistManifest | None, allow_base_mismatch: bool
    ) -> SpecialistManifest:
        """`given`, else the folder's. Raises AdapterError for a name that is reserved, or the wrong base."""
        manifest = read_folder_manifest(folder) if given is None else given
        if manifest.name in RESERVED_NAMES:
            raise AdapterError(f"{folder}: the name {manifest.name!r} is reserved", code="name_reserved")
        wanted, found = manifest.base_sha256, self.base_sha256
        if wanted is not None and found is not None and wanted != found:
            sentence = (
                f"{folder}: it was trained on the base {wanted[:16]}, this server's base is {found[:16]}"
            )
            if not allow_base_mismatch:
                raise AdapterError(sentence, code="base_mismatch")
            logger.warning("%s; loaded all the same, as allowed", sentence)
        return manifest

    def read(self, folder: Path, manifest: SpecialistManifest, generation: int) -> LoadedAdapter:
        """A new generation, in memory. Raises AdapterError."""
        checkpoint = self._checkpoint(folder)
        weights = self._ready(checkpoint.weights)
        limit = self.limits.max_resident_bytes
        if weights.num_bytes > limit:
            raise AdapterError(
                f"{folder}: it takes {weights.num_bytes} bytes in memory; all together may take {limit}",
                code="too_large",
            )
        return LoadedAdapter(
            name=manifest.name,
            generation=generation,
            manifest=manifest,
            folder=folder,
            sha256=checkpoint.sha256,
            rank=weights.rank,
            targets=checkpoint.weights.targets,
            num_bytes=weights.num_bytes,
            memory=AdapterMemory(weights),
        )

    def read_again(self, adapter: LoadedAdapter) -> AdapterWeights:
        """The weights of a generation. Raises AdapterError, `content_changed` when the files are not the same."""
        checkpoint = self._checkpoint(adapter.folder)
        if checkpoint.sha256 != adapter.sha256:
            raise AdapterError(
                f"{adapter.folder} has changed since it was loaded: its content is {checkpoint.sha256[:16]}, "
                f"expected {adapter.sha256[:16]}; load it anew",
                code="content_changed",
            )
        return self._ready(checkpoint.weights)

    def _checkpoint(self, folder: Path) -> Checkpoint:
        return read_checkpoint(folder, self.base, self.max_rank, self.dtype, self.limits.max_file_bytes)

    def _ready(self, weights: LoraWeights) -> AdapterWeights:
        return weights if self.prepare is None else self.prepare(weights)
