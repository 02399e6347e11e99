"""Answers written while training: by a teacher, or by the student with the adapter as it is now, through the engine."""

import hashlib
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from specialists.adapters.checkpoint import read_checkpoint
from specialists.adapters.registry import LoadedAdapter
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import Completion, LLMEngine
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from specialists.manifest import SpecialistManifest
from specialists.training.lora import TrainableModel


def draw_seed(*parts: object) -> int:
    """A seed that is a function of its parts: a continued run draws what an uninterrupted one would have drawn."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


class Writer:
    """One base model in an engine, with at most one adapter at a time."""

    def __init__(self, base: Path, dtype: torch.dtype) -> None:
        name = str(dtype).removeprefix("torch.")
        self._qwen = read_qwen_config(base)
        self._dtype = dtype
        self._engine = LLMEngine(
            base, EngineConfig(dtype=name, num_blocks=1024, max_num_seqs=32, max_adapters=2)
        )
        # Each adapter is a generation of its own: the engine's cache is keyed by it.
        self._generations = itertools.count(1)
        self._adapter: LoadedAdapter | None = None

    def follow(self, model: TrainableModel) -> None:
        """Write with the model's adapter as it is now, by way of the files it would be published as."""
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder), base_name="base")
            weights = read_checkpoint(
                Path(folder), self._qwen, self._engine.config.max_lora_rank, self._dtype
            )
        manifest = SpecialistManifest(name="in-training")
        self._adapter = LoadedAdapter(manifest.name, next(self._generations), manifest, weights)

    def write(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> list[Completion]:
        """One answer to each prompt, ended by the model's end token or cut at `max_tokens`."""
        params = [SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed) for seed in seeds]
        return self._engine.generate(prompts, params, self._adapter)
