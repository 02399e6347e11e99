"""Products with bf16 or 8-bit weights by the native kernels: fast for the few rows of a decode step.

A row's result is the same whichever rows are beside it: 8-bit sums are exact, bf16 sums run in one fixed order.
"""

import ctypes

import torch
from torch import Tensor

from specialists.engine.native.library import LANES, TILE_ROWS, Kernels, PackedWeightStruct, address
from specialists.engine.quantized_linear import quantize_rows

_GROUP_BYTES = 4  # of one row's inputs that the processor multiplies at a time


class NativeLinear:
    """A weight [out_features, in_features] in blocks of 16 outputs, as kernels.cpp wants it."""

    def __init__(self, kernels: Kernels, weight: Tensor, bias: Tensor | None, *, quantized: bool) -> None:
        self._kernels = kernels
        self._out_features, self._in_features = weight.shape
        self._bias = None if bias is None else bias.float()
        self._scale: Tensor | None = None
        self._shift: Tensor | None = None
        if quantized:
            weight, self._scale = quantize_rows(weight)
            # The kernel shifts activations by 128 to make them unsigned; this is what the shift adds to each sum.
            self._shift = weight.sum(dim=1, dtype=torch.int32).mul_(128)
        group = _GROUP_BYTES // weight.element_size()
        blocks = weight.view(self._out_features // LANES, LANES, self._in_features // group, group)
        self._values = blocks.permute(0, 2, 1, 3).contiguous()
        self._struct = PackedWeightStruct(
            address(self._values),
            self._in_features,
            self._out_features,
            address(self._scale),
            address(self._shift),
            address(self._bias),
        )
        self._struct_address = ctypes.addressof(self._struct)

    @staticmethod
    def supports(kernels: Kernels, weight: Tensor) -> bool:
        """Whether these kernels have a product for this weight."""
        fits = all(size % LANES == 0 for size in weight.shape)
        return kernels.has_linear and fits and weight.dtype is torch.bfloat16 and weight.device.type == "cpu"

    def __call__(self, x: Tensor) -> Tensor:
        return self.adapted(x, None, None)

    def adapted(self, x: Tensor, table: int | None, rows_of_step: int | None) -> Tensor:
        """The product plus what the adapters add to it: addresses of C structs Adapter and LoraRows, None for none.

        Every adapted target must begin at a multiple of 16 outputs.
        """
        rows = len(x)
        padded = rows + TILE_ROWS
        x = x.contiguous()
        out = x.new_empty(rows, self._out_features)
        scratch = torch.empty(padded * self._in_features * 2, dtype=torch.uint8)
        row_scale = torch.empty(padded)
        self._kernels.linear(
            *(address(x), rows, self._struct_address, address(out), address(scratch), address(row_scale)),
            *(table, rows_of_step),
        )
        return out
