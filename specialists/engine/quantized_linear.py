"""Products with quantised weights through libraries: oneDNN's 8-bit products, and bitsandbytes.

8 bits here means W8A8: a scale per output of the weight, a scale per row of the activations, computed as they come
(as LLM.int8(), arXiv:2208.07339, without its outlier columns; docs/experiments.md has what that costs).
"""

from typing import Any

import torch
from torch import Tensor

_LEVELS = 127
_OFFSET = 128  # oneDNN's fast path wants unsigned activations; its signed one is a hundred times slower here
_SMALLEST = 1e-12


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [rows, columns] -> int8 [rows, columns] and scales [rows] in float32, so that values times scales are about x.

    A row with values that are not finite gets the scale NaN.
    """
    wide = x.float()
    highest = wide.abs().amax(dim=1)
    factor = _LEVELS / highest.clamp_min(_SMALLEST)
    values = (wide * factor[:, None]).round_().nan_to_num_(0.0, 0.0, 0.0).to(torch.int8)
    scale = highest.clamp_min(_SMALLEST) / _LEVELS
    return values, scale.masked_fill_(~highest.isfinite(), float("nan"))


class Int8Linear:
    """8-bit weights and activations through oneDNN (AMX or VNNI where the processor has them)."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        values, self._scale = quantize_rows(weight)
        self._zero_points = torch.zeros(len(weight), dtype=torch.int32)
        self._weight = torch.ops.onednn.qlinear_prepack(values, [16, weight.shape[1]])
        self._bias = None if bias is None else bias.float()

    def __call__(self, x: Tensor) -> Tensor:
        values, scale = quantize_rows(x)
        shifted = (values.to(torch.int16) + _OFFSET).to(torch.uint8)
        sums: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(shifted, 1.0, _OFFSET, self._weight, self._scale, self._zero_points, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        out = sums * scale[:, None]
        if self._bias is not None:
            out += self._bias
        return out.to(x.dtype)


class BitsAndBytesLinear:
    """4-bit NormalFloat (QLoRA, arXiv:2305.14314) or LLM.int8() weights as bitsandbytes makes them, on its devices."""

    def __init__(self, weight: Tensor, bias: Tensor | None, quantization: str) -> None:
        make = {"bnb-nf4": _nf4_module, "bnb-int8": _int8_module}[quantization]
        module = make(weight)
        if bias is not None:
            module.bias = torch.nn.Parameter(bias, requires_grad=False)
        self._module = module.to(weight.device).eval()
        # LLM.int8() computes in float16 and warns at each product of another type.
        self._input_dtype = torch.float16 if quantization == "bnb-int8" else weight.dtype

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = self._module(x.to(self._input_dtype))
        return out.to(x.dtype).contiguous()


def _nf4_module(weight: Tensor) -> Any:
    import bitsandbytes as bnb

    out_features, in_features = weight.shape
    module = bnb.nn.Linear4bit(
        in_features, out_features, bias=False, compute_dtype=weight.dtype, quant_type="nf4", device="meta"
    )
    module.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    return module


def _int8_module(weight: Tensor) -> Any:
    import bitsandbytes as bnb

    out_features, in_features = weight.shape
    module = bnb.nn.Linear8bitLt(in_features, out_features, bias=False, has_fp16_weights=False, device="meta")
    module.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    return module
