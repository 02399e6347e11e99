"""The Qwen2 and Qwen3 decoder over packed linears and a block cache: one forward pass for one batch.

Names follow the checkpoints. q, k and v are one product, gate and up are one product; the LoRA stack knows
the same fusion, and adds its share to each of the four products of a layer.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from specialists.adapters.lora_linear import LoraBatch
from specialists.engine.attention import decode_attention, prefill_attention
from specialists.engine.batch import ForwardBatch
from specialists.engine.kv_cache import KVCache
from specialists.engine.linear import Linear, make_linear
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.engine.rotary import RotaryEmbedding, rotate
from specialists.engine.weights import WeightReader


@dataclass(frozen=True, slots=True)
class QwenLayer:
    """The weights of one decoder layer."""

    input_norm: Tensor  # [hidden_size]
    post_attention_norm: Tensor  # [hidden_size]
    qkv: Linear  # hidden_size -> query_size + 2 * kv_size
    o: Linear  # query_size -> hidden_size
    gate_up: Linear  # hidden_size -> 2 * intermediate_size
    down: Linear  # intermediate_size -> hidden_size
    q_norm: Tensor | None  # [head_dim], Qwen3
    k_norm: Tensor | None


class QwenModel:
    """A checkpoint in memory, ready to run batches."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, max_position: int) -> None:
        self.config = read_qwen_config(folder)
        self.device = device
        self.dtype = dtype
        config = self.config
        with WeightReader(folder, device, dtype) as weights:
            self._embedding = weights.take(
                "model.embed_tokens.weight", (config.vocab_size, config.hidden_size)
            )
            self._layers = [_load_layer(weights, config, index) for index in range(config.num_layers)]
            self._norm = weights.take("model.norm.weight", (config.hidden_size,))
            self._lm_head = make_linear(
                self._embedding
                if config.tie_word_embeddings
                else weights.take("lm_head.weight", (config.vocab_size, config.hidden_size))
            )
        self._rotary = RotaryEmbedding(config.head_dim, config.rope_theta, max_position, device, dtype)

    def forward(self, batch: ForwardBatch, cache: KVCache, lora: LoraBatch | None) -> Tensor:
        """Runs all tokens of the batch, writes the cache; returns the logits [num_sampled, vocab_size]."""
        x = self._embedding[batch.token_ids]
        cos, sin = self._rotary.at(batch.positions)
        for index, layer in enumerate(self._layers):
            hidden = self._norm_of(x, layer.input_norm)
            x = x + self._attention(hidden, index, layer, batch, cache, lora, cos, sin)
            hidden = self._norm_of(x, layer.post_attention_norm)
            x = x + self._mlp(hidden, index, layer, lora)
        x = x[batch.sampled_rows]
        return self._lm_head(self._norm_of(x, self._norm))

    def _attention(
        self,
        hidden: Tensor,
        index: int,
        layer: QwenLayer,
        batch: ForwardBatch,
        cache: KVCache,
        lora: LoraBatch | None,
        cos: Tensor,
        sin: Tensor,
    ) -> Tensor:
        config = self.config
        qkv = layer.qkv(hidden)
        if lora is not None:
            qkv = lora.add(index, "qkv", hidden, qkv)
        query, key, value = qkv.view(len(hidden), -1, config.head_dim).split(
            (config.num_heads, config.num_kv_heads, config.num_kv_heads), dim=1
        )
        if layer.q_norm is not None and layer.k_norm is not None:
            query, key = self._norm_of(query, layer.q_norm), self._norm_of(key, layer.k_norm)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        cache.write(index, batch.cache_places, key, value)
        attended = self._attend(query, key, value, index, batch, cache)
        out = layer.o(attended)
        return out if lora is None else lora.add(index, "o", attended, out)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, index: int, batch: ForwardBatch, cache: KVCache
    ) -> Tensor:
        scale = self.config.head_dim**-0.5
        parts = []
        if batch.decodes is not None:
            rows = query[: batch.decodes.num_rows]
            parts.append(decode_attention(rows, cache, index, batch.decodes, scale))
        for chunk in batch.prefills:
            span = slice(chunk.start, chunk.end)
            parts.append(prefill_attention(query[span], key[span], value[span], cache, index, chunk, scale))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _mlp(self, hidden: Tensor, index: int, layer: QwenLayer, lora: LoraBatch | None) -> Tensor:
        gate_up = layer.gate_up(hidden)
        if lora is not None:
            gate_up = lora.add(index, "gate_up", hidden, gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        activated = F.silu(gate).mul_(up)
        out = layer.down(activated)
        return out if lora is None else lora.add(index, "down", activated, out)

    def _norm_of(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm as the checkpoints were trained with: float32 inside, the weight applied after rounding.

        Spelt out because torch's own is ten times slower on a CPU for the 512 rows of a prompt.
        """
        wide = x.float()
        length: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = length.square_().div_(wide.shape[-1]).add_(self.config.rms_norm_eps).rsqrt_()
        return (wide * scale).to(x.dtype).mul_(weight)


def _load_layer(weights: WeightReader, config: QwenConfig, index: int) -> QwenLayer:
    prefix = f"model.layers.{index}"
    hidden, inner = config.hidden_size, config.intermediate_size
    sizes = {"q_proj": config.query_size, "k_proj": config.kv_size, "v_proj": config.kv_size}
    qkv = [weights.take(f"{prefix}.self_attn.{name}.weight", (size, hidden)) for name, size in sizes.items()]
    biases = [
        weights.take_optional(f"{prefix}.self_attn.{name}.bias", (size,)) for name, size in sizes.items()
    ]
    present = [bias for bias in biases if bias is not None]
    gate_up = [
        weights.take(f"{prefix}.mlp.{name}.weight", (inner, hidden)) for name in ("gate_proj", "up_proj")
    ]
    head_shape = (config.head_dim,)
    return QwenLayer(
        input_norm=weights.take(f"{prefix}.input_layernorm.weight", (hidden,)),
        post_attention_norm=weights.take(f"{prefix}.post_attention_layernorm.weight", (hidden,)),
        qkv=make_linear(torch.cat(qkv), torch.cat(present) if present else None),
        o=make_linear(
            weights.take(f"{prefix}.self_attn.o_proj.weight", (hidden, config.query_size)),
            weights.take_optional(f"{prefix}.self_attn.o_proj.bias", (hidden,)),
        ),
        gate_up=make_linear(torch.cat(gate_up)),
        down=make_linear(weights.take(f"{prefix}.mlp.down_proj.weight", (hidden, inner))),
        q_norm=weights.take(f"{prefix}.self_attn.q_norm.weight", head_shape) if config.has_qk_norm else None,
        k_norm=weights.take(f"{prefix}.self_attn.k_norm.weight", head_shape) if config.has_qk_norm else None,
    )
