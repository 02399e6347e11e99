"""Attention of a pack: each segment to its prefix and causally to itself, with a backward made for CPUs.

Measured here (AVX512-BF16, one thread, 256 tokens, 14 heads): torch's own flash kernel in bf16 takes 4 ms
forward and 12 ms backward, most of it in small products that do not reach oneDNN. Whole score matrices are
affordable at the lengths of answers, so scores are one float32 product, and all other products are bf16
ones.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from specialists.training.packing import Segment

ATTENTION_NAME = "polymath_packed"


@lru_cache(maxsize=64)
def _future_mask(num_queries: int, num_keys: int) -> Tensor:
    """Boolean [num_queries, num_keys]: True in a query's future; the last key is the last query's own."""
    full = torch.ones(num_queries, num_keys, dtype=torch.bool)
    return full.triu(num_keys - num_queries + 1)


class _GroupedAttention(torch.autograd.Function):
    """softmax(q k^T * scale) v with the queries of a group sharing one key head.

    query: [num_kv_heads, group * num_queries, head_dim], key and value: [num_kv_heads, num_keys, head_dim].
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, num_queries: int, scale: float
    ) -> Tensor:
        num_keys = key.shape[1]
        # In float32: Qwen2's biases make scores of a hundred and more, whose bf16 rounding would be 0.5.
        scores = torch.bmm(query.float() * scale, key.float().transpose(1, 2))
        future = _future_mask(num_queries, num_keys)
        scores.view(key.shape[0], -1, num_queries, num_keys).masked_fill_(future, float("-inf"))
        weights = torch.softmax(scores, dim=-1).to(query.dtype)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return torch.bmm(weights, value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, weights = ctx.saved_tensors
        (grad,) = grads
        grad_value = torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, value.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_scores *= ctx.scale
        grad_query = torch.bmm(grad_scores, key)
        grad_key = torch.bmm(grad_scores.transpose(1, 2), query)
        return grad_query, grad_key, grad_value, None, None


def attend_segments(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scale: float
) -> Tensor:
    """The attention of all segments, which must cover the tokens in order.

    query: [num_heads, num_tokens, head_dim], key and value: [num_kv_heads, num_tokens, head_dim]
    -> [num_tokens, num_heads, head_dim].
    """
    num_heads, _, head_dim = query.shape
    num_kv_heads = key.shape[0]
    outputs = []
    for segment in segments:
        num_queries = segment.end - segment.start
        queries = query[:, segment.start : segment.end].reshape(num_kv_heads, -1, head_dim)
        keys, values = _with_prefix(key, segment), _with_prefix(value, segment)
        output: Tensor = _GroupedAttention.apply(  # type: ignore[no-untyped-call]
            queries, keys, values, num_queries, scale
        )
        outputs.append(output.view(num_heads, num_queries, head_dim).transpose(0, 1))
    return torch.cat(outputs)


def _with_prefix(tensor: Tensor, segment: Segment) -> Tensor:
    own = tensor[:, segment.start : segment.end]
    if segment.prefix_start == segment.prefix_end:
        return own
    return torch.cat([tensor[:, segment.prefix_start : segment.prefix_end], own], dim=1)


def _packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    segments: Sequence[Segment],
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' interface: [1, heads, num_tokens, head_dim] in, [1, num_tokens, heads, head_dim] out."""
    output = attend_segments(query[0], key[0], value[0], segments, scaling)
    return output.unsqueeze(0), None


def register_packed_attention() -> str:
    """Make the attention known to transformers; the name to use as `attn_implementation`."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, _packed_attention)
    return ATTENTION_NAME
