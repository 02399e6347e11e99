"""How the frozen base's matrices are kept while an adapter is trained, and the two products training needs of each.

bitsandbytes' forms, 4 and 8 bits, are made dense again for each product, forward and backward (QLoRA, arXiv:2305.14314):
memory is saved, not time. `bnb-int8` rounds the weights row by row as LLM.int8() does, and leaves activations as they are.
`int8` computes in 8 bits, activations and gradients rounded row by row as they come (SwitchBack, arXiv:2304.13013), by the
engine's own products: what is saved is time.
"""

from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from specialists.engine.config import EngineConfig
from specialists.engine.linear import Linear, LinearMaker
from specialists.engine.model_runner import find_kernels
from specialists.training.sections import BaseQuantization


class FrozenWeight(Protocol):
    """A matrix [out, in] that is never trained."""

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + bias: [num_tokens, in] -> [num_tokens, out], in memory of its own."""

    def backward(self, grad: Tensor) -> Tensor:
        """The gradient of x: [num_tokens, out] -> [num_tokens, in], in memory of its own."""


class DenseWeight(ABC):
    """A matrix whose products are torch's, of its dense form."""

    @abstractmethod
    def dense(self) -> Tensor: ...

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.linear(x, self.dense(), bias)

    def backward(self, grad: Tensor) -> Tensor:
        return grad @ self.dense()


class PlainWeight(DenseWeight):
    """The matrix as it was loaded."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def dense(self) -> Tensor:
        return self._weight


class Nf4Weight(DenseWeight):
    """4-bit NormalFloat in blocks of 64 with 8-bit scales ("double quantisation"): 0.52 bytes a weight."""

    def __init__(self, weight: Tensor) -> None:
        from bitsandbytes.functional import quantize_4bit

        self._values, self._state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)

    def dense(self) -> Tensor:
        from bitsandbytes.functional import dequantize_4bit

        dense: Tensor = dequantize_4bit(self._values, self._state)
        return dense


class BnbInt8Weight(DenseWeight):
    """8-bit integers with a scale for each row."""

    def __init__(self, weight: Tensor) -> None:
        from bitsandbytes.functional import int8_vectorwise_quant

        self._dtype = weight.dtype
        self._values, scales, _ = int8_vectorwise_quant(weight.to(torch.float16))
        self._scales = (scales / 127.0).unsqueeze(1)

    def dense(self) -> Tensor:
        dense: Tensor = (self._values.float() * self._scales).to(self._dtype)
        return dense


class Int8Weight:
    """8-bit products: a scale for each output going forward and, unless it is only read, for each input going back."""

    def __init__(self, weight: Tensor, kernel_folder: Path | None, *, only_read: bool = False) -> None:
        make = _int8_maker(str(weight.dtype).removeprefix("torch."), kernel_folder)
        self._forward: Linear = make(weight)
        self._back: Linear | None = None if only_read else make(weight.t().contiguous())

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        output = self._forward(x)
        return output if bias is None else output.add_(bias)

    def backward(self, grad: Tensor) -> Tensor:
        assert self._back is not None, "a weight that is only read has no backward product"
        return self._back(grad)


@cache
def _int8_maker(dtype: str, kernel_folder: Path | None) -> LinearMaker:
    """As the engine stores an 8-bit base here: the native products where they can be had, else oneDNN's."""
    config = EngineConfig(dtype=dtype, kernel_folder=kernel_folder)
    return LinearMaker("int8", find_kernels(config))


_DENSE: dict[str, type[PlainWeight | Nf4Weight | BnbInt8Weight]] = {
    "none": PlainWeight,
    "bnb-nf4": Nf4Weight,
    "bnb-int8": BnbInt8Weight,
}


def freeze_weight(
    weight: Tensor,
    quantization: BaseQuantization,
    kernel_folder: Path | None = None,
    *,
    only_read: bool = False,
) -> FrozenWeight:
    """The matrix in the asked form; the original is not kept unless it is the form. `kernel_folder`: as the engine's.

    One that is `only_read` may have no product for the way back.
    """
    if quantization == "int8":
        return Int8Weight(weight.detach(), kernel_folder, only_read=only_read)
    return _DENSE[quantization](weight.detach())
