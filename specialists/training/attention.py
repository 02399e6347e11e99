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
from specialists.training.shapes import ATTENTION_MULTIPLE, pad_rows, round_up

ATTENTION_NAME = "polymath_packed"


@lru_cache(maxsize=256)
def _future_mask(num_queries: int, num_keys: int, num_prefix: int) -> Tensor:
    """Boolean [num_queries, num_keys]: True where a key is beyond the prefix and the query's own place."""
    return torch.ones(num_queries, num_keys, dtype=torch.bool).triu(num_prefix + 1)


class _GroupedAttention(torch.autograd.Function):
    """softmax(q k^T * scale) v with the queries of a group sharing one key head.

    query: [num_kv_heads, group * num_queries, head_dim], key and value: [num_kv_heads, num_keys, head_dim],
    future: boolean [num_queries, num_keys], True where a query must not look.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, future: Tensor, scale: float) -> Tensor:
        # In float32: Qwen2's biases make scores of a hundred and more, whose bf16 rounding would be 0.5.
        scores = torch.bmm(query.float() * scale, key.float().transpose(1, 2))
        scores.view(key.shape[0], -1, *future.shape).masked_fill_(future, float("-inf"))
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
    outputs = [_attend(query, key, value, segment, scale) for segment in segments]
    return torch.cat(outputs)


def _attend(query: Tensor, key: Tensor, value: Tensor, segment: Segment, scale: float) -> Tensor:
    """One segment: [num_tokens of it, num_heads, head_dim]."""
    num_heads, _, head_dim = query.shape
    num_prefix, num_queries = segment.prefix_end - segment.prefix_start, segment.end - segment.start
    num_rows = round_up(num_queries, ATTENTION_MULTIPLE)
    num_keys = round_up(num_prefix + num_queries, ATTENTION_MULTIPLE)
    # Rows beyond the segment are cut off again; keys beyond it are in every real query's future.
    queries = pad_rows(query[:, segment.start : segment.end], num_rows, dim=1)
    output: Tensor = _GroupedAttention.apply(  # type: ignore[no-untyped-call]
        queries.reshape(key.shape[0], -1, head_dim),
        pad_rows(_with_prefix(key, segment), num_keys, dim=1),
        pad_rows(_with_prefix(value, segment), num_keys, dim=1),
        _future_mask(num_rows, num_keys, num_prefix),
        scale,
    )
    return output.view(num_heads, num_rows, head_dim)[:, :num_queries].transpose(0, 1)


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
