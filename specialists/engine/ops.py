"""The operations between the matrix products of a layer, behind one interface: torch's, or the native kernels.

Both round where the checkpoints' own code rounds. The native ones are fused, and compute each row from that row
alone.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from specialists.engine.attention import decode_attention, prefill_attention
from specialists.engine.batch import ForwardBatch
from specialists.engine.kv_cache import KVCache
from specialists.engine.native.library import MAX_GROUP, MAX_HEAD_DIM, Kernels, address
from specialists.engine.qwen_config import QwenConfig
from specialists.engine.rotary import RotaryEmbedding, rotate


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """Qwen3's norms over each head, [head_dim] each; None for Qwen2."""

    query: Tensor | None = None
    key: Tensor | None = None


class Ops(Protocol):
    """What a layer computes beside its products. `x` [num_tokens, hidden_size] is the residual stream."""

    def add_norm(self, x: Tensor, added: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        """x plus `added`, and the RMSNorm of that. May change x in place."""

    def attention(
        self, qkv: Tensor, norms: HeadNorms, layer: int, batch: ForwardBatch, cache: KVCache
    ) -> Tensor:
        """Turn q and k of `qkv` [num_tokens, query_size + 2 * kv_size], store k and v, attend -> [num_tokens, query_size]"""

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """[num_tokens, 2 * n] -> [num_tokens, n]: silu of the first half times the second"""


class TorchOps:
    """Any device, any floating type."""

    def __init__(self, config: QwenConfig, rotary: RotaryEmbedding) -> None:
        self._config = config
        self._rotary = rotary

    def add_norm(self, x: Tensor, added: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        if added is not None:
            x = x + added
        return x, self._norm(x, weight)

    def attention(
        self, qkv: Tensor, norms: HeadNorms, layer: int, batch: ForwardBatch, cache: KVCache
    ) -> Tensor:
        config = self._config
        query, key, value = qkv.view(len(qkv), -1, config.head_dim).split(
            (config.num_heads, config.num_kv_heads, config.num_kv_heads), dim=1
        )
        if norms.query is not None and norms.key is not None:
            query, key = self._norm(query, norms.query), self._norm(key, norms.key)
        cos, sin = self._rotary.at(batch.positions)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        cache.write(layer, batch.cache_places, key, value)
        parts = []
        if batch.decodes is not None:
            rows = query[: batch.decodes.num_rows]
            parts.append(decode_attention(rows, cache, layer, batch.decodes, config.head_dim**-0.5))
        for chunk in batch.prefills:
            span = slice(chunk.start, chunk.end)
            parts.append(
                prefill_attention(
                    query[span], key[span], value[span], cache, layer, chunk, config.head_dim**-0.5
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm as the checkpoints were trained with: float32 inside, the weight applied after rounding.

        Spelt out because torch's own is ten times slower on a CPU for the 512 rows of a prompt.
        """
        wide = x.float()
        length: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = length.square_().div_(wide.shape[-1]).add_(self._config.rms_norm_eps).rsqrt_()
        return (wide * scale).to(x.dtype).mul_(weight)


class NativeOps:
    """bf16 on a CPU, by the compiled kernels."""

    def __init__(self, kernels: Kernels, config: QwenConfig, rotary: RotaryEmbedding) -> None:
        self._kernels = kernels
        self._config = config
        self._rotary = rotary

    @staticmethod
    def supports(config: QwenConfig) -> bool:
        group = config.num_heads // config.num_kv_heads
        return group <= MAX_GROUP and config.head_dim <= MAX_HEAD_DIM and config.head_dim % 2 == 0

    def add_norm(self, x: Tensor, added: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        rows, width = x.shape
        out = torch.empty_like(x)
        self._kernels.add_norm(
            address(x), address(added), address(weight), address(out), rows, width, self._config.rms_norm_eps
        )
        return x, out

    def attention(
        self, qkv: Tensor, norms: HeadNorms, layer: int, batch: ForwardBatch, cache: KVCache
    ) -> Tensor:
        config = self._config
        self._rotate_and_store(qkv, norms, layer, batch, cache)
        out = qkv.new_empty(len(qkv), config.query_size)
        decodes = batch.decodes
        if decodes is not None:
            tables = decodes.blocks, decodes.table_starts, decodes.num_keys
            self._attend(qkv, out, 0, decodes.num_rows, tables, layer, cache)
        for chunk in batch.prefills:
            tables = chunk.all_blocks, torch.zeros_like(chunk.num_keys), chunk.num_keys
            self._attend(qkv, out, chunk.start, chunk.end, tables, layer, cache, is_chunk=True)
        return out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        rows, width = gate_up.shape
        out = gate_up.new_empty(rows, width // 2)
        self._kernels.silu_mul(address(gate_up), address(out), rows, width // 2)
        return out

    def _rotate_and_store(
        self, qkv: Tensor, norms: HeadNorms, layer: int, batch: ForwardBatch, cache: KVCache
    ) -> None:
        config = self._config
        keys, values, head_stride = cache.pointers(layer)
        self._kernels.rotate_and_store(
            *(address(qkv), len(qkv), config.num_heads, config.num_kv_heads, config.head_dim),
            *(address(norms.query), address(norms.key), config.rms_norm_eps),
            *(address(self._rotary.cos), address(self._rotary.sin), address(batch.positions)),
            *(address(batch.cache_places), keys, values, head_stride),
        )

    def _attend(
        self,
        qkv: Tensor,
        out: Tensor,
        start: int,
        end: int,
        tables: tuple[Tensor, Tensor, Tensor],
        layer: int,
        cache: KVCache,
        *,
        is_chunk: bool = False,
    ) -> None:
        config = self._config
        keys, values, head_stride = cache.pointers(layer)
        blocks, starts, num_keys = tables
        self._kernels.attention(
            *(address(qkv[start:]), qkv.shape[1], end - start),
            *(config.num_heads, config.num_kv_heads, config.head_dim, keys, values, head_stride),
            *(address(blocks), address(starts), address(num_keys), cache.block_size),
            *(config.head_dim**-0.5, address(out[start:]), is_chunk),
        )
