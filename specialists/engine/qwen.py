"""The Qwen2 and Qwen3 decoder over packed linears and a block cache: one forward pass for one batch.

Names follow the checkpoints. q, k and v are one product, gate and up are one product; LoRA knows
the same fusion, and adds its share to each of the four products of a layer.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from specialists.adapters.lora import LoraBatch
from specialists.engine.batch import ForwardBatch
from specialists.engine.config import EngineConfig
from specialists.engine.kv_cache import KVCache
from specialists.engine.linear import Linear, LinearMaker
from specialists.engine.native.library import Kernels
from specialists.engine.native_linear import NativeLinear
from specialists.engine.ops import HeadNorms, NativeOps, Ops, TorchOps
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.engine.rotary import RotaryEmbedding
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
    head_norms: HeadNorms


class QwenModel:
    """A checkpoint in memory, ready to run batches."""

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        engine: EngineConfig,
        kernels: Kernels | None = None,
    ) -> None:
        self.config = read_qwen_config(folder)
        self.device = device
        self.dtype = dtype
        config = self.config
        make_linear = LinearMaker(engine.quantization, kernels, engine.batch_invariant)
        with WeightReader(folder, device, dtype) as weights:
            self._embedding = weights.take(
                "model.embed_tokens.weight", (config.vocab_size, config.hidden_size)
            )
            self._layers = [
                _load_layer(weights, config, index, make_linear) for index in range(config.num_layers)
            ]
            self._norm = weights.take("model.norm.weight", (config.hidden_size,))
            self._lm_head = make_linear.head(
                self._embedding
                if config.tie_word_embeddings
                else weights.take("lm_head.weight", (config.vocab_size, config.hidden_size))
            )
        rotary = RotaryEmbedding(config.head_dim, config.rope_theta, engine.max_model_len, device, dtype)
        self._ops: Ops
        if kernels is not None and NativeOps.supports(config):
            self._ops = NativeOps(kernels, config, rotary)
        else:
            self._ops = TorchOps(config, rotary)

    @property
    def is_batch_invariant(self) -> bool:
        """Whether every operation computes a row from that row alone, in a fixed order."""
        layers = [
            linear for layer in self._layers for linear in (layer.qkv, layer.o, layer.gate_up, layer.down)
        ]
        return isinstance(self._ops, NativeOps) and all(
            isinstance(linear, NativeLinear) for linear in [*layers, self._lm_head]
        )

    def forward(self, batch: ForwardBatch, cache: KVCache, lora: LoraBatch | None) -> Tensor:
        """Runs all tokens of the batch, writes the cache; returns the logits [num_sampled, vocab_size]."""
        x = self._embedding[batch.token_ids]
        added: Tensor | None = None
        for index, layer in enumerate(self._layers):
            x, hidden = self._ops.add_norm(x, added, layer.input_norm)
            qkv = _product(lora, index, "qkv", hidden, layer.qkv)
            attended = self._ops.attention(qkv, layer.head_norms, index, batch, cache)
            added = _product(lora, index, "o", attended, layer.o)
            x, hidden = self._ops.add_norm(x, added, layer.post_attention_norm)
            gate_up = _product(lora, index, "gate_up", hidden, layer.gate_up)
            activated = self._ops.silu_mul(gate_up)
            added = _product(lora, index, "down", activated, layer.down)
        rows = batch.sampled_rows
        _, hidden = self._ops.add_norm(x[rows], None if added is None else added[rows], self._norm)
        return self._lm_head(hidden)


def _product(lora: LoraBatch | None, layer: int, group: str, x: Tensor, linear: Linear) -> Tensor:
    return linear(x) if lora is None else lora.product(layer, group, x, linear)


def _load_layer(weights: WeightReader, config: QwenConfig, index: int, make_linear: LinearMaker) -> QwenLayer:
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
        head_norms=HeadNorms(
            weights.take(f"{prefix}.self_attn.q_norm.weight", head_shape),
            weights.take(f"{prefix}.self_attn.k_norm.weight", head_shape),
        )
        if config.has_qk_norm
        else HeadNorms(),
    )
