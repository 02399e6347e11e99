"""Matrix products with fixed weights. The one place that knows how a device wants its weights stored."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from specialists.engine.native.library import Kernels
from specialists.engine.native_linear import NativeLinear
from specialists.engine.quantized_linear import BitsAndBytesLinear, Int8Linear

# oneDNN packs for a batch of about this many rows; other row counts work with the same packing.
_TYPICAL_ROWS = 16


class Linear(Protocol):
    """A product with a weight [out_features, in_features] that does not change."""

    def __call__(self, x: Tensor) -> Tensor:
        """[num_tokens, in_features] -> [num_tokens, out_features]"""


class AddingLinear(Linear, Protocol):
    """A product that can be added to another's result on the way."""

    def added_to(self, base: Tensor, x: Tensor) -> Tensor:
        """`base` [num_tokens, out_features] plus the product, without the bias."""


class PlainLinear:
    """Weights as they are: any device, any floating type."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)

    def added_to(self, base: Tensor, x: Tensor) -> Tensor:
        return torch.addmm(base, x, self._weight.t())


class PackedLinear:
    """bf16 weights in oneDNN's own blocked layout for this processor (AMX or AVX-512 where it has them)."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _TYPICAL_ROWS)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]

    def added_to(self, base: Tensor, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(x, base, self._weight, None, "add")  # type: ignore[no-any-return]


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this device and type have a packed form that is faster than the plain one."""
    return (
        device.type == "cpu"
        and dtype is torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def make_adding_linear(weight: Tensor, bias: Tensor | None = None) -> AddingLinear:
    """The fastest `AddingLinear` for where the weight [out_features, in_features] lives, in its own type."""
    packs = can_pack(weight.device, weight.dtype)
    return PackedLinear(weight, bias) if packs else PlainLinear(weight, bias)


@dataclass(frozen=True, slots=True)
class LinearMaker:
    """Stores the base's weights: quantised as asked, and as the fastest product here wants them.

    `kernels` None means that there are none. With `batch_invariant` they are used wherever they have a product; otherwise
    not on a processor with AMX, whose tiles oneDNN uses. `quantization` is that of the engine's configuration.
    """

    quantization: str = "none"
    kernels: Kernels | None = None
    batch_invariant: bool = False

    def __call__(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        if self.quantization.startswith("bnb-"):
            return BitsAndBytesLinear(weight, bias, self.quantization)
        return self._make(weight, bias, quantized=self.quantization == "int8")

    def head(self, weight: Tensor) -> Linear:
        """The output layer: bitsandbytes leaves it as it is, as its users expect."""
        return self._make(weight, None, quantized=self.quantization == "int8")

    def _make(self, weight: Tensor, bias: Tensor | None, *, quantized: bool) -> Linear:
        wanted = self.batch_invariant or not torch.cpu._is_amx_tile_supported()
        if self.kernels is not None and wanted and NativeLinear.supports(self.kernels, weight):
            return NativeLinear(self.kernels, weight, bias, quantized=quantized)
        return Int8Linear(weight, bias) if quantized else make_adding_linear(weight, bias)
