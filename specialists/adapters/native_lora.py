"""LoRA by the native kernels: each row meets only its own adapter, read where it lies in memory.

Nothing is stacked, so bringing an adapter into a slot costs a copy of addresses, and a row's result does not depend on
which other adapters are in the batch (the idea of batched gathers: Punica, arXiv:2310.18547).
"""

import ctypes
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from specialists.adapters.checkpoint import LoraPair, LoraWeights, in_out_features
from specialists.adapters.lora import FUSED, AdapterWeights
from specialists.adapters.peft_config import TARGETS
from specialists.engine.linear import Linear
from specialists.engine.native.library import (
    ADAPTER_WORDS,
    LANES,
    MAX_RANK,
    TARGETS_PER_PRODUCT,
    Kernels,
    LoraRowsStruct,
    address,
)
from specialists.engine.native_linear import NativeLinear
from specialists.engine.qwen_config import QwenConfig
from specialists.engine.scheduler_output import BASE_SLOT, SchedulerOutput

_GROUPS = tuple(FUSED)


@dataclass(frozen=True, slots=True)
class AdapterTable:
    """One adapter as the kernels see it: for each layer and fused product a C struct Adapter, as 8-byte words."""

    rank: int
    words: Tensor  # int64 [num_layers * num_groups * ADAPTER_WORDS]
    memory: tuple[Tensor, ...]  # what the words point to

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.words, *self.memory))


def make_table(base: QwenConfig, weights: LoraWeights) -> AdapterTable:
    """Packs all factors of an adapter for the kernels; about its own size in memory."""
    (scale,) = struct.unpack("q", struct.pack("d", weights.scaling))
    words: list[int] = []
    memory: list[Tensor] = []
    for layer in range(base.num_layers):
        for group in _GROUPS:
            targets = FUSED[group]
            out_start = 0
            for place in range(TARGETS_PER_PRODUCT):
                pair = weights.pairs.get((layer, targets[place])) if place < len(targets) else None
                width = in_out_features(base, targets[place])[1] if place < len(targets) else 0
                if pair is None:
                    words += [0, 0, 0, out_start, width]
                else:
                    a, b, rank = _pack(pair)
                    memory += [a, b]
                    words += [a.data_ptr(), b.data_ptr(), rank, out_start, width]
                out_start += width
            words.append(scale)
    return AdapterTable(weights.rank, torch.tensor(words, dtype=torch.int64), tuple(memory))


def _pack(pair: LoraPair) -> tuple[Tensor, Tensor, int]:
    """Both factors with what is multiplied together in pairs, and the rank made even by a column of zeros."""
    a, b = pair.a, pair.b
    if a.shape[0] % 2:
        a, b = F.pad(a, (0, 0, 0, 1)), F.pad(b, (0, 1))
    return _in_lanes(a), _in_lanes(b), a.shape[0]


def _in_lanes(factor: Tensor) -> Tensor:
    """[outputs, inputs] -> for each 16 outputs (the last may be fewer) [inputs / 2][outputs][2], flat."""
    outputs = factor.shape[0]
    pairs = factor.view(torch.int32)  # two bfloat16 move as one
    whole = outputs // LANES * LANES
    blocks = pairs[:whole].view(-1, LANES, pairs.shape[1]).transpose(1, 2).reshape(-1)
    if whole < outputs:
        blocks = torch.cat([blocks, pairs[whole:].t().reshape(-1)])
    return blocks.view(factor.dtype)


class NativeLora:
    """The adapters in `num_slots` slots."""

    def __init__(self, kernels: Kernels, base: QwenConfig, num_slots: int) -> None:
        self._kernels = kernels
        self._base = base
        self._tables = torch.zeros(
            num_slots, base.num_layers * len(_GROUPS) * ADAPTER_WORDS, dtype=torch.int64
        )
        struct_bytes = ADAPTER_WORDS * self._tables.element_size()
        self._addresses = {
            (layer, group): self._tables.data_ptr() + (layer * len(_GROUPS) + number) * struct_bytes
            for layer in range(base.num_layers)
            for number, group in enumerate(_GROUPS)
        }
        # Inside a product the kernel goes by blocks of 16 outputs, which must not straddle two targets.
        self._can_fuse = all(in_out_features(base, target)[1] % LANES == 0 for target in TARGETS)
        self._kept: dict[int, AdapterTable] = {}

    def prepare(self, weights: LoraWeights) -> AdapterTable:
        """What `place` takes without further work. May run on any thread."""
        return make_table(self._base, weights)

    def place(self, slot: int, weights: AdapterWeights) -> None:
        table = make_table(self._base, weights) if isinstance(weights, LoraWeights) else weights
        assert isinstance(table, AdapterTable), f"adapter weights of another engine: {type(table).__name__}"
        self._tables[slot] = table.words
        self._kept[slot] = table

    def vacate(self, slot: int) -> None:
        self._tables[slot] = 0  # a row that named the slot all the same would get the base, not freed memory
        del self._kept[slot]

    def for_step(self, output: SchedulerOutput) -> "NativeLoraBatch | None":
        """The adapted rows of a step, those of one adapter together; None when no row has an adapter."""
        rows_by_slot: dict[int, list[int]] = {}
        start = 0
        for item in output.scheduled:
            if item.slot != BASE_SLOT:
                rows_by_slot.setdefault(item.slot, []).extend(range(start, start + item.num_rows))
            start += item.num_rows
        if not rows_by_slot:
            return None
        stride = self._tables.shape[1] // ADAPTER_WORDS
        return NativeLoraBatch(
            self._kernels, self._addresses, stride, rows_by_slot, start, can_fuse=self._can_fuse
        )


class NativeLoraBatch:
    """The slots together with the rows of one step. `addresses` are those of slot 0's structs, `stride` structs apart."""

    def __init__(
        self,
        kernels: Kernels,
        addresses: Mapping[tuple[int, str], int],
        stride: int,
        rows_by_slot: Mapping[int, list[int]],
        num_tokens: int,
        *,
        can_fuse: bool,
    ) -> None:
        self._kernels = kernels
        self._addresses = addresses
        self._can_fuse = can_fuse
        starts, rows = [0], []
        for run in rows_by_slot.values():
            rows += run
            starts.append(len(rows))
        reduced = torch.empty(num_tokens, TARGETS_PER_PRODUCT * MAX_RANK, dtype=torch.bfloat16)
        self._memory = (
            torch.tensor(list(rows_by_slot), dtype=torch.int32),
            torch.tensor(starts, dtype=torch.int32),
            torch.tensor(rows, dtype=torch.int32),
            reduced,
        )
        slots_at, starts_at, rows_at, reduced_at = map(address, self._memory)
        self._step = LoraRowsStruct(stride, slots_at, starts_at, len(rows_by_slot), rows_at, reduced_at)
        self._step_address = ctypes.addressof(self._step)

    def product(self, layer: int, group: str, x: Tensor, linear: Linear) -> Tensor:
        """linear(x) plus each row's own adapter applied to x, in one call where the linear is of these kernels too."""
        if self._can_fuse and isinstance(linear, NativeLinear):
            return linear.adapted(x, self._addresses[layer, group], self._step_address)
        out = linear(x)
        self._kernels.lora(
            *(self._addresses[layer, group], self._step_address),
            *(address(x), x.shape[1], address(out), out.shape[1]),
        )
        return out
