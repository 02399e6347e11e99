"""Matrix products with fixed weights. The one place that knows how a device wants its weights stored."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# oneDNN packs for a batch of about this many rows; other row counts work with the same packing.
_TYPICAL_ROWS = 16


class Linear(Protocol):
    """A product with a weight [out_features, in_features] that does not change."""

    def __call__(self, x: Tensor) -> Tensor:
        """[num_tokens, in_features] -> [num_tokens, out_features]"""

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


def make_linear(weight: Tensor, bias: Tensor | None = None) -> Linear:
    """The fastest `Linear` for where the weight [out_features, in_features] lives."""
    if can_pack(weight.device, weight.dtype):
        return PackedLinear(weight, bias)
    return PlainLinear(weight, bias)
