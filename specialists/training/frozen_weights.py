"""How the frozen base's matrices are kept while an adapter is trained: as they are, or by bitsandbytes in 4 or 8 bits.

Quantised weights are made dense again for each product, forward and backward (QLoRA, arXiv:2305.14314): memory is saved,
not time. `bnb-int8` rounds the weights row by row as LLM.int8() does, and leaves the activations as they are.
"""

from typing import Protocol

import torch
from torch import Tensor

from specialists.training.sections import BaseQuantization


class FrozenWeight(Protocol):
    """A matrix [out, in] that is never trained."""

    def dense(self) -> Tensor: ...


class PlainWeight:
    """The matrix as it was loaded."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def dense(self) -> Tensor:
        return self._weight


class Nf4Weight:
    """4-bit NormalFloat in blocks of 64 with 8-bit scales ("double quantisation"): 0.52 bytes a weight."""

    def __init__(self, weight: Tensor) -> None:
        from bitsandbytes.functional import quantize_4bit

        self._values, self._state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)

    def dense(self) -> Tensor:
        from bitsandbytes.functional import dequantize_4bit

        dense: Tensor = dequantize_4bit(self._values, self._state)
        return dense


class Int8Weight:
    """8-bit integers with a scale for each row."""

    def __init__(self, weight: Tensor) -> None:
        from bitsandbytes.functional import int8_vectorwise_quant

        self._dtype = weight.dtype
        self._values, scales, _ = int8_vectorwise_quant(weight.to(torch.float16))
        self._scales = (scales / 127.0).unsqueeze(1)

    def dense(self) -> Tensor:
        dense: Tensor = (self._values.float() * self._scales).to(self._dtype)
        return dense


_KINDS: dict[BaseQuantization, type[PlainWeight] | type[Nf4Weight] | type[Int8Weight]] = {
    "none": PlainWeight,
    "bnb-nf4": Nf4Weight,
    "bnb-int8": Int8Weight,
}


def freeze_weight(weight: Tensor, quantization: BaseQuantization) -> FrozenWeight:
    """The matrix in the asked form; the original is not kept unless it is the form."""
    return _KINDS[quantization](weight.detach())
