"""Masked concatenated LoRA: the adapters of a mixed batch as two products per linear, without a loop over adapters.

The A factors of the stacked adapters stand side by side along the rank, the B factors likewise. One product
gives every row its share of every adapter, a mask keeps each row's own columns (times its scale; none for the
base), and one product brings them back, added to the base's result. Four adapters cost nearly what one costs
(the idea of batched heterogeneous LoRA: Punica, arXiv:2310.18547; the mask in place of a gather is this project's).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from specialists.adapters.checkpoint import LoraPair, LoraWeights, in_out_features
from specialists.adapters.lora import FUSED, AdapterWeights
from specialists.engine.linear import AddingLinear, Linear, make_adding_linear
from specialists.engine.qwen_config import QwenConfig
from specialists.engine.scheduler_output import BASE_SLOT, SchedulerOutput

# After so many steps an adapter that no row used leaves the stack: a smaller stack is a cheaper one, but making one
# costs about a step, so short pauses must not cause it.
_IDLE_STEPS = 256


@dataclass(frozen=True, slots=True)
class _StackedLinear:
    """The factors of all stacked adapters for one fused linear of one layer."""

    a: AddingLinear  # in_features -> num_columns
    b: AddingLinear  # num_columns -> out_features


class LoraStack:
    """The adapters in some slots, concatenated for one device. Immutable: another set of slots is another stack."""

    def __init__(
        self,
        base: QwenConfig,
        weights_by_slot: Mapping[int, LoraWeights],
        num_slots: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.slots = frozenset(weights_by_slot)
        self._device = device
        self._dtype = dtype
        self._linears: dict[tuple[int, str], _StackedLinear] = {}
        self._scales: dict[str, Tensor] = {}
        for group in FUSED:
            columns = _columns_of(group, weights_by_slot)
            if columns:
                self._scales[group] = self._scale_table(columns, weights_by_slot, num_slots)
                for layer in range(base.num_layers):
                    self._linears[layer, group] = self._stack(base, layer, group, columns, weights_by_slot)

    def for_rows(self, slots: Tensor) -> "StackedLoraBatch":
        """`slots` [num_tokens] names each row's slot, BASE_SLOT for none; all must be in this stack."""
        # BASE_SLOT is -1: shifted by one it is the table's first row, which is zero.
        rows = slots - BASE_SLOT
        return StackedLoraBatch(self._linears, {group: table[rows] for group, table in self._scales.items()})

    def _scale_table(
        self, columns: list[tuple[int, str]], weights_by_slot: Mapping[int, LoraWeights], num_slots: int
    ) -> Tensor:
        """[num_slots + 1, num_columns]: the scale where a column belongs to a slot, else 0."""
        width = sum(weights_by_slot[slot].rank for slot, _ in columns)
        table = torch.zeros(num_slots + 1, width, dtype=self._dtype, device=self._device)
        start = 0
        for slot, _ in columns:
            weights = weights_by_slot[slot]
            table[slot - BASE_SLOT, start : start + weights.rank] = weights.scaling
            start += weights.rank
        return table

    def _stack(
        self,
        base: QwenConfig,
        layer: int,
        group: str,
        columns: list[tuple[int, str]],
        weights_by_slot: Mapping[int, LoraWeights],
    ) -> _StackedLinear:
        sizes = [in_out_features(base, target) for target in FUSED[group]]
        width = sum(weights_by_slot[slot].rank for slot, _ in columns)
        a = torch.zeros(width, sizes[0][0], dtype=self._dtype)
        b = torch.zeros(sum(out for _, out in sizes), width, dtype=self._dtype)
        start = 0
        for slot, target in columns:
            weights = weights_by_slot[slot]
            pair: LoraPair | None = weights.pairs.get((layer, target))
            if pair is not None:
                position = FUSED[group].index(target)
                row = sum(out for _, out in sizes[:position])
                a[start : start + weights.rank] = pair.a
                b[row : row + sizes[position][1], start : start + weights.rank] = pair.b
            start += weights.rank
        return _StackedLinear(make_adding_linear(a.to(self._device)), make_adding_linear(b.to(self._device)))


class StackedLora:
    """The adapters in `num_slots` slots, stacked anew when the recently used ones change."""

    def __init__(self, base: QwenConfig, num_slots: int, device: torch.device, dtype: torch.dtype) -> None:
        self._base = base
        self._num_slots = num_slots
        self._device = device
        self._dtype = dtype
        self._weights_by_slot: dict[int, LoraWeights] = {}
        self._last_used: dict[int, int] = {}
        self._stack: LoraStack | None = None
        self._step = 0

    def prepare(self, weights: LoraWeights) -> AdapterWeights:
        return weights

    def place(self, slot: int, weights: AdapterWeights) -> None:
        assert isinstance(weights, LoraWeights), (
            f"adapter weights of another engine: {type(weights).__name__}"
        )
        self._weights_by_slot[slot] = weights
        if self._stack is not None and slot in self._stack.slots:
            self._stack = None

    def vacate(self, slot: int) -> None:
        del self._weights_by_slot[slot]
        self._last_used.pop(slot, None)
        if self._stack is not None and slot in self._stack.slots:
            self._stack = None

    def for_step(self, output: SchedulerOutput) -> "StackedLoraBatch | None":
        self._step += 1
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
            self._stack = LoraStack(self._base, chosen, self._num_slots, self._device, self._dtype)
        slots = [slot for item in output.scheduled for slot in [item.slot] * item.num_rows]
        return self._stack.for_rows(torch.tensor(slots, device=self._device))


class StackedLoraBatch:
    """A stack together with the masks of one batch's rows."""

    def __init__(
        self, linears: Mapping[tuple[int, str], _StackedLinear], scales: Mapping[str, Tensor]
    ) -> None:
        self._linears = linears
        self._scales = scales

    def product(self, layer: int, group: str, x: Tensor, linear: Linear) -> Tensor:
        """linear(x) plus each row's own adapter applied to x [num_tokens, in_features]."""
        base = linear(x)
        if group not in self._scales:
            return base
        stacked = self._linears[layer, group]
        return stacked.b.added_to(base, stacked.a(x).mul_(self._scales[group]))


def _columns_of(group: str, weights_by_slot: Mapping[int, LoraWeights]) -> list[tuple[int, str]]:
    """The (slot, target) pairs that have columns in this group's stack; each is as wide as its adapter's rank."""
    return [
        (slot, target)
        for target in FUSED[group]
        for slot in sorted(weights_by_slot)
        if target in weights_by_slot[slot].targets
    ]
