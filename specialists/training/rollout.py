"""Answers written while training: by a teacher, or by the student with the adapter as it is now, through the engine."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from specialists.adapters.errors import AdapterError
from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import Completion, LLMEngine
from specialists.engine.sampling_params import SamplingParams
from specialists.manifest import SpecialistManifest
from specialists.training.lora import TrainableModel
from specialists.training.sections import BaseQuantization


def draw_seed(*parts: object) -> int:
    """A seed that is a function of its parts: a continued run draws what an uninterrupted one would have drawn."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


class Writer:
    """One base model in an engine, with at most one adapter at a time."""

    def __init__(
        self,
        base: Path,
        dtype: torch.dtype,
        kernel_folder: Path | None = None,
        quantization: BaseQuantization = "none",
    ) -> None:
        config = EngineConfig(
            dtype=str(dtype).removeprefix("torch."),
            # The engine quantises bfloat16 alone; float32, for which nobody waits, writes with the weights as they are.
            quantization=quantization if dtype == torch.bfloat16 else "none",
            num_blocks=1024,
            max_num_seqs=32,
            max_adapters=2,
            kernel_folder=kernel_folder,
        )
        self._engine = LLMEngine(base, config)
        # Each adapter is a generation of its own: the engine's cache is keyed by it.
        runner = self._engine.runner
        self._registry = AdapterRegistry(runner.model.config, dtype=dtype, prepare=runner.prepare)
        self._adapter: LoadedAdapter | None = None

    def follow(self, model: TrainableModel) -> None:
        """Write with the model's adapter as it is now, by way of the files it would be published as."""
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder), base_name="base")
            manifest = SpecialistManifest(name="in-training")
            try:
                self._adapter = self._registry.load(Path(folder), manifest=manifest, replace=True)
            except AdapterError as error:
                if error.code != "no_effect":
                    raise
                self._adapter = None  # before its first step an adapter is the base

    def write(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> list[Completion]:
        """One answer to each prompt, ended by the model's end token or cut at `max_tokens`."""
        params = [SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed) for seed in seeds]
        return self._engine.generate(prompts, params, self._adapter)
