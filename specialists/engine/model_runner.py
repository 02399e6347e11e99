"""The only file that runs the served model: adapters into slots, the batch, the forward pass, sampling."""

import logging
from itertools import islice
from pathlib import Path

import torch

from specialists.adapters.checkpoint import LoraWeights
from specialists.adapters.lora import AdapterWeights, LoraSlots
from specialists.adapters.lora_linear import StackedLora
from specialists.adapters.native_lora import NativeLora
from specialists.engine.batch import build_batch
from specialists.engine.config import EngineConfig
from specialists.engine.kv_cache import KVCache
from specialists.engine.native.build import BuildError
from specialists.engine.native.library import Kernels, load_kernels
from specialists.engine.qwen import QwenModel
from specialists.engine.sampler import agreed, sample
from specialists.engine.scheduler_output import SchedulerOutput

logger = logging.getLogger(__name__)


class ModelRunner:
    """Owns the model, its cache and the adapters in their slots. Used by one thread.

    Raises BuildError when the native kernels are demanded and cannot be had.
    """

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        self._device = torch.device(config.device)
        dtype = getattr(torch, config.dtype)
        self.kernels = find_kernels(config)
        self.model = QwenModel(folder, self._device, dtype, config, self.kernels)
        if config.batch_invariant and not self.model.is_batch_invariant:
            raise BuildError(
                "batch_invariant needs the native kernels with their products (a CPU with AVX512-VNNI and AVX512-BF16, "
                "dtype bfloat16, quantization none or int8); this engine does not have them"
            )
        shape = self.model.config
        self.cache = KVCache(
            num_layers=shape.num_layers,
            num_blocks=config.num_blocks,
            block_size=config.block_size,
            num_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            device=self._device,
            dtype=dtype,
        )
        self._lora: LoraSlots
        if self.kernels is not None:
            self._lora = NativeLora(self.kernels, shape, config.max_adapters)
        else:
            self._lora = StackedLora(shape, config.max_adapters, self._device, dtype)

    def prepare(self, weights: LoraWeights) -> AdapterWeights:
        """The adapter as this engine wants it, so that `place` is quick. May run on any thread."""
        return self._lora.prepare(weights)

    def place(self, slot: int, weights: AdapterWeights) -> None:
        """Put an adapter into a slot; whatever was there is gone."""
        self._lora.place(slot, weights)

    def vacate(self, slot: int) -> None:
        """Keep nothing of the adapter in this slot."""
        self._lora.vacate(slot)

    @torch.inference_mode()
    def execute(self, output: SchedulerOutput) -> list[tuple[int, ...]]:
        """Run the planned step; the new token ids of each planned sequence that completes, in the plan's order.

        One, or more where a draft was right; none for a sequence whose logits are not finite.
        """
        batch = build_batch(output, self.cache.block_size, self._device)
        logits = self.model.forward(batch, self.cache, self._lora.for_step(output))
        completing = [item for item in output.scheduled if item.completes]
        rows = [
            (item.sequence, len(item.sequence) + place)
            for item in completing
            for place in range(1 + len(item.draft))
        ]
        for row, (sequence, _) in enumerate(rows):
            if sequence.probe is not None:
                sequence.probe(logits[row])
        token_ids = iter(sample(logits, rows))
        return [agreed(item.draft, list(islice(token_ids, 1 + len(item.draft)))) for item in completing]


def find_kernels(config: EngineConfig) -> Kernels | None:
    """The native kernels, where the configuration wants and this machine has them; None for torch's operations.

    Raises BuildError when they are demanded and cannot be had.
    """
    if config.kernels == "torch":
        return None
    if config.device != "cpu" or config.dtype != "bfloat16":
        if config.kernels == "native":
            raise BuildError(
                f"native kernels compute bfloat16 on a cpu; the engine runs {config.dtype} on {config.device}"
            )
        return None
    try:
        return load_kernels(config.kernel_folder)
    except BuildError as error:
        if config.kernels == "native":
            raise
        logger.warning("the native kernels are not used, answers take longer: %s", error)
        return None
