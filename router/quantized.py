"""The merged encoder in 8 bits for serving: oneDNN products of uint8 activations with int8 weights, everything else fp32.

Activation ranges are fixed when the router is trained, so a prompt's embedding does not depend on what shares its batch.
Ranges are per channel: each channel is stretched towards the full 8 bits and its weights are shrunk accordingly
(SmoothQuant), half of the way, which spreads the rounding over both factors.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer

from router.model import pooled, read_depths

RANGE_PREFIX = "range."  # of the tensors in the trained part: `range.<module>` is [2, in], greatest and least
_SMOOTHING = 0.5
_LEVELS = 255


def is_supported() -> bool:
    """Whether this processor multiplies 8-bit integers without saturating on the way (VNNI or AMX)."""
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported())


@torch.inference_mode()
def input_ranges(
    encoder: BertModel, batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]
) -> dict[str, torch.Tensor]:
    """The greatest and least input of every linear layer by channel, over batches of (ids, segments, mask)."""
    ranges: dict[str, torch.Tensor] = {}

    def watch(name: str) -> "torch.utils.hooks.RemovableHandle":
        def note(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            rows = inputs[0].flatten(0, -2)
            seen = torch.stack([rows.amax(dim=0), rows.amin(dim=0)])  # [2, in]
            old = ranges.get(name, seen)
            ranges[name] = torch.stack([torch.maximum(old[0], seen[0]), torch.minimum(old[1], seen[1])])

        handle: torch.utils.hooks.RemovableHandle = encoder.get_submodule(name).register_forward_pre_hook(
            note
        )
        return handle

    names = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    handles = [watch(name) for name in names]
    try:
        for ids, segments, mask in batches:
            encoder(input_ids=ids, token_type_ids=segments, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    return {RANGE_PREFIX + name: seen.to(torch.float16).contiguous() for name, seen in ranges.items()}


class _Product:
    """One linear layer: uint8 [rows, in] -> fp32 [rows, out], or uint8 after a GELU when `gelu` is its output's scale."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, seen: torch.Tensor, gelu: "_Product | None" = None
    ) -> None:
        greatest, least = seen.float().clamp_min(0.0)[0], seen.float().clamp_max(0.0)[1]
        stretch = self._stretch(weight, torch.maximum(greatest, -least))
        high, low = (greatest / stretch).max(), (least / stretch).min()
        self.scale = max(float(high - low), 1e-6) / _LEVELS
        self.zero = round(float(-low) / self.scale)
        self._multiplier = 1 / (stretch * self.scale)  # [in]
        self._shift = torch.full_like(self._multiplier, self.zero + 0.5)  # the cast to integers cuts off
        stretched = weight * stretch
        self._weight_scale = stretched.abs().amax(dim=1).clamp_min(1e-9) / 127  # [out]
        rounded = (stretched / self._weight_scale[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._weight_zero = torch.zeros(len(rounded), dtype=torch.int64)
        self._bias = bias
        self._next = gelu

    def _stretch(self, weight: torch.Tensor, greatest: torch.Tensor) -> torch.Tensor:
        activations = greatest.clamp_min(1e-5) ** _SMOOTHING
        return activations / weight.abs().amax(dim=0).clamp_min(1e-5) ** (1 - _SMOOTHING)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """fp32 [rows, in] -> uint8."""
        return torch.addcmul(self._shift, x, self._multiplier).clamp_(0, _LEVELS).to(torch.uint8)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        scale, zero, dtype, after = 1.0, 0, torch.float32, "none"
        if self._next is not None:
            scale, zero, dtype, after = self._next.scale, self._next.zero, torch.uint8, "gelu"
        result: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            x, self.scale, self.zero, self._weight, self._weight_scale, self._weight_zero, self._bias,
            scale, zero, dtype, after, [], "none",
        )  # fmt: skip
        return result


class _AfterGelu(_Product):
    """The layer after the GELU: its input is quantized by the product before it, with one scale for all channels."""

    def _stretch(self, weight: torch.Tensor, greatest: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(greatest)


class _Layer:
    """One layer of BERT on [rows, hidden], rows being all tokens of all prompts."""

    def __init__(self, layer: BertLayer, ranges: dict[str, torch.Tensor], name: str, heads: int) -> None:
        attention = layer.attention.self
        self._heads = heads
        self._head_size = attention.query.out_features // heads
        scaling = self._head_size**-0.5  # folded into the queries
        parts = (attention.key, attention.value)
        weight = torch.cat([attention.query.weight * scaling, *(part.weight for part in parts)])
        bias = torch.cat([attention.query.bias * scaling, *(part.bias for part in parts)])
        seen = {short: ranges[f"{RANGE_PREFIX}{name}.{short}"] for short in _INPUTS}
        self._qkv = _Product(weight, bias, seen["attention.self.query"])
        out = layer.attention.output
        self._out = _Product(out.dense.weight, out.dense.bias, seen["attention.output.dense"])
        self._down = _AfterGelu(layer.output.dense.weight, layer.output.dense.bias, seen["output.dense"])
        up = layer.intermediate.dense
        self._up = _Product(up.weight, up.bias, seen["intermediate.dense"], gelu=self._down)
        self._norms = (out.LayerNorm, layer.output.LayerNorm)

    def __call__(self, x: torch.Tensor, batch: int, away: torch.Tensor | None) -> torch.Tensor:
        """`away` is None or [batch, 1, 1, tokens], minus infinity at the padding."""
        rows, hidden = x.shape
        split = self._qkv(self._qkv.quantize(x)).view(batch, rows // batch, 3, self._heads, self._head_size)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # each [batch, heads, tokens, head size]
        attended = functional.scaled_dot_product_attention(queries, keys, values, away, scale=1.0)
        attended = attended.transpose(1, 2).reshape(rows, hidden)
        x = self._norms[0](self._out(self._out.quantize(attended)).add_(x))
        normed: torch.Tensor = self._norms[1](self._down(self._up(self._up.quantize(x))).add_(x))
        return normed


_INPUTS = ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")


class QuantizedEncoder:
    """BERT in 8 bits with mean pooling to unit vectors, one for each of `read_depths`. Immutable."""

    def __init__(self, encoder: BertModel, ranges: dict[str, torch.Tensor]) -> None:
        self.hidden_size: int = encoder.config.hidden_size
        self._depths = read_depths(encoder.config.num_hidden_layers)
        self._embeddings = encoder.embeddings
        heads = encoder.config.num_attention_heads
        with torch.no_grad():
            self._layers = [
                _Layer(layer, ranges, f"encoder.layer.{number}", heads)
                for number, layer in enumerate(encoder.encoder.layer)
            ]

    @torch.inference_mode()
    def embed(self, ids: torch.Tensor, segments: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Ids, segments and mask are [batch, tokens]; a mask of None says nothing is padding.

        -> [batch, depths * hidden].
        """
        batch, tokens = ids.shape
        x = self._embeddings(input_ids=ids, token_type_ids=segments).view(batch * tokens, -1)
        away = None
        if mask is not None:
            away = torch.zeros(mask.shape).masked_fill_(mask == 0, float("-inf"))[:, None, None, :]
        read = {0: pooled(x.view(batch, tokens, -1), mask)}
        for depth, layer in enumerate(self._layers, start=1):
            x = layer(x, batch, away)
            if depth in self._depths:
                read[depth] = pooled(x.view(batch, tokens, -1), mask)
        return torch.cat([read[depth] for depth in self._depths], dim=-1)
