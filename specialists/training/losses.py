"""Cross-entropy over a large vocabulary without keeping the logits.

The head is frozen, so the gradient with respect to its input can be made at once, chunk by chunk: memory is
bounded by one chunk of logits, and only positions that predict an answer's token go through the head at all.
"""

from typing import Any

import torch
from torch import Tensor

from specialists.training.shapes import TARGET_MULTIPLE, pad_rows, round_up

# Rows of logits at a time: large enough for the products, 256 * 151,936 bf16 logits are 78 MB.
CHUNK_ROWS = 256
# Rows of float32 probabilities at a time: 8 * 151,936 * 4 bytes stay in a shared cache.
_SOFTMAX_ROWS = 8


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        needs_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(hidden) if needs_grad else hidden.new_empty(0)
        for start in range(0, hidden.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            num_rows = len(targets[rows])
            padded = pad_rows(hidden[rows], round_up(num_rows, TARGET_MULTIPLE), dim=0)
            logits = padded @ head.t()  # [chunk, vocab]
            total += _sum_losses(logits, targets[rows], leave_grad=needs_grad)
            if needs_grad:
                grad[rows] = (logits @ head)[:num_rows]
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype), None, None


def _sum_losses(logits: Tensor, targets: Tensor, leave_grad: bool) -> Tensor:
    """The summed loss of the targets' rows. With `leave_grad` those logits become their own gradient."""
    total = torch.zeros((), dtype=torch.float32, device=logits.device)
    for start in range(0, len(targets), _SOFTMAX_ROWS):
        rows = slice(start, min(start + _SOFTMAX_ROWS, len(targets)))  # the logits may have rows beyond
        log_probabilities = torch.log_softmax(logits[rows], dim=-1, dtype=torch.float32)
        index = targets[rows].unsqueeze(1)
        at_target = log_probabilities.gather(1, index)
        total -= at_target.sum()
        if leave_grad:
            # The probabilities, minus one at the target: expm1 keeps the small gradient of an almost certain
            # token.
            logits[rows] = log_probabilities.exp_().scatter_(1, index, at_target.expm1())
    return total


def chunked_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """The sum of the cross-entropies of `targets`, a float32 scalar.

    hidden: [num_targets, hidden_size]; head: [vocab_size, hidden_size], which gets no gradient; targets:
    [num_targets], int64. The gradient equals that of the plain loss up to the rounding of the dtype.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, head, targets)  # type: ignore[no-untyped-call]
    return loss
