"""The only file that runs the served model: adapters into slots, the batch, the forward pass, sampling."""

from pathlib import Path

import torch

from specialists.adapters.checkpoint import LoraWeights
from specialists.adapters.lora_linear import LoraBatch, LoraStack
from specialists.engine.batch import ForwardBatch, build_batch
from specialists.engine.config import EngineConfig
from specialists.engine.kv_cache import KVCache
from specialists.engine.qwen import QwenModel
from specialists.engine.sampler import sample
from specialists.engine.scheduler_output import BASE_SLOT, SchedulerOutput

# After so many steps an adapter that no row used leaves the stack: a smaller stack is a cheaper one, but making one
# costs about a step, so short pauses must not cause it.
_IDLE_STEPS = 256


class ModelRunner:
    """Owns the model, its cache and the stack of adapters. Used by one thread."""

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        self._device = torch.device(config.device)
        self._dtype = getattr(torch, config.dtype)
        self.model = QwenModel(folder, self._device, self._dtype, config.max_model_len)
        shape = self.model.config
        self.cache = KVCache(
            num_layers=shape.num_layers,
            num_blocks=config.num_blocks,
            block_size=config.block_size,
            num_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            device=self._device,
            dtype=self._dtype,
        )
        self._num_slots = config.max_adapters
        self._weights_by_slot: dict[int, LoraWeights] = {}
        self._last_used: dict[int, int] = {}
        self._stack: LoraStack | None = None
        self._step = 0

    def place(self, slot: int, weights: LoraWeights) -> None:
        """Put an adapter into a slot; whatever was there is gone."""
        self._weights_by_slot[slot] = weights
        if self._stack is not None and slot in self._stack.slots:
            self._stack = None

    @torch.inference_mode()
    def execute(self, output: SchedulerOutput) -> list[int]:
        """Run the planned step; one new token id for each planned sequence that completes, in the plan's order."""
        self._step += 1
        batch = build_batch(output, self.cache.block_size, self._device)
        logits = self.model.forward(batch, self.cache, self._lora_for(output, batch))
        return sample(logits, [item.sequence for item in output.scheduled if item.completes])

    def _lora_for(self, output: SchedulerOutput, batch: ForwardBatch) -> LoraBatch | None:
        needed = {item.slot for item in output.scheduled if item.slot != BASE_SLOT}
        if not needed:
            return None
        for slot in needed:
            self._last_used[slot] = self._step
        recent = {
            slot for slot in self._weights_by_slot if self._step - self._last_used.get(slot, 0) < _IDLE_STEPS
        } | needed
        if self._stack is None or not needed <= self._stack.slots or recent < self._stack.slots:
            chosen = {slot: self._weights_by_slot[slot] for slot in sorted(recent)}
            self._stack = LoraStack(self.model.config, chosen, self._num_slots, self._device, self._dtype)
        return self._stack.for_rows(batch.slots)
