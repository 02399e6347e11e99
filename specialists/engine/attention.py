"""Attention over the block cache: one call for all decoding rows, one for each prompt chunk.

Both see keys in the cache's type and sum in float32, so a prompt in chunks and a prompt in one piece agree.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from specialists.engine.kv_cache import KVCache


@dataclass(frozen=True)
class DecodeRows:
    """The decoding rows of a step, the first `num_rows` of its tokens.

    `blocks` [num_rows * blocks_per_row] are cache blocks, short rows filled up with any block; row i's begin at
    `table_starts[i]`, and it sees `num_keys[i]` keys.
    """

    num_rows: int
    block_size: int
    blocks: Tensor
    table_starts: Tensor
    num_keys: Tensor

    @cached_property
    def mask(self) -> Tensor:
        """[num_rows, 1, blocks_per_row * block_size]: 0 where a row may look and -inf elsewhere."""
        width = len(self.blocks) // self.num_rows * self.block_size
        visible = torch.arange(width, device=self.blocks.device) < self.num_keys.unsqueeze(1)
        mask = torch.zeros(visible.shape, device=self.blocks.device).masked_fill_(~visible, float("-inf"))
        return mask.unsqueeze(1)


@dataclass(frozen=True)
class PrefillChunk:
    """Rows `start` to `end` of a step: consecutive tokens of one prompt, the first ones if `is_first`.

    `all_blocks` [num_blocks] hold the prompt up to the chunk's end; its row i sees `num_keys[i]` keys.
    """

    start: int
    end: int
    is_first: bool
    block_size: int
    all_blocks: Tensor
    num_keys: Tensor

    @cached_property
    def mask(self) -> Tensor:
        """[end - start, num_blocks * block_size]: whether a row may look there."""
        width = len(self.all_blocks) * self.block_size
        return torch.arange(width, device=self.all_blocks.device) < self.num_keys.unsqueeze(1)


def decode_attention(query: Tensor, cache: KVCache, layer: int, rows: DecodeRows, scale: float) -> Tensor:
    """query [num_rows, num_heads, head_dim] -> [num_rows, num_heads * head_dim]

    Query heads that share a key head are the rows of one small product; on a CPU this beats the fused kernel
    for single tokens, whose work cannot be split over query positions.
    """
    num_rows, num_heads, head_dim = query.shape
    keys, values = cache.gather(layer, rows.blocks)
    num_kv_heads = keys.shape[0]
    # Key heads come first all through, as in the cache: so the gathered blocks are used without another copy.
    grouped = query.view(num_rows, num_kv_heads, -1, head_dim).transpose(0, 1)
    keys = keys.view(num_kv_heads, num_rows, -1, head_dim)
    values = values.view(num_kv_heads, num_rows, -1, head_dim)
    scores = torch.matmul(grouped, keys.transpose(-1, -2)).float()
    weights = torch.softmax(scores.mul_(scale).add_(rows.mask), dim=-1).to(query.dtype)
    return torch.matmul(weights, values).transpose(0, 1).reshape(num_rows, num_heads * head_dim)


def prefill_attention(
    query: Tensor, key: Tensor, value: Tensor, cache: KVCache, layer: int, chunk: PrefillChunk, scale: float
) -> Tensor:
    """query [num_tokens, num_heads, head_dim], key and value [num_tokens, num_kv_heads, head_dim] of the chunk itself
    -> [num_tokens, num_heads * head_dim]
    """
    num_tokens, num_heads, head_dim = query.shape
    if chunk.is_first:  # it sees only itself
        keys, values = key.transpose(0, 1), value.transpose(0, 1)
    else:
        keys, values = cache.gather(layer, chunk.all_blocks)
    num_kv_heads, num_keys, _ = keys.shape
    out = F.scaled_dot_product_attention(
        query.transpose(0, 1).unsqueeze(0),
        _per_query_head(keys, num_heads, num_kv_heads, num_keys, head_dim),
        _per_query_head(values, num_heads, num_kv_heads, num_keys, head_dim),
        attn_mask=None if chunk.is_first else chunk.mask,
        is_causal=chunk.is_first,
        scale=scale,
    )
    return out.squeeze(0).transpose(0, 1).reshape(num_tokens, num_heads * head_dim)


def _per_query_head(x: Tensor, num_heads: int, num_kv_heads: int, num_keys: int, head_dim: int) -> Tensor:
    """[num_kv_heads, num_keys, head_dim] -> [1, num_heads, num_keys, head_dim]"""
    repeats = num_heads // num_kv_heads
    expanded = x.unsqueeze(1).expand(num_kv_heads, repeats, num_keys, head_dim)
    return expanded.reshape(1, num_heads, num_keys, head_dim)
