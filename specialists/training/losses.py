"""Losses over a large vocabulary without keeping the logits.

Every loss here looks at a few logits of a row and at the row's normaliser (the logarithm of the sum over all of
them), so all of them are `RowTerm`s of one pass: the head runs once, chunk by chunk, and the gradient with respect to
its input is made at once, as the head is frozen. Memory is bounded by one chunk of logits. Only positions that predict
an answer's token come here at all.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from specialists.training.shapes import TARGET_MULTIPLE, pad_rows, round_up

# Rows of logits at a time: large enough for the products, 256 * 151,936 bf16 logits are 78 MB.
CHUNK_ROWS = 256
# Rows of float32 probabilities at a time: 8 * 151,936 * 4 bytes stay in a shared cache.
_SOFTMAX_ROWS = 8


class RowTerm(Protocol):
    """One summand of the loss. `ids` [num_rows, k] says which logits it reads, `temperature` divides all logits."""

    @property
    def ids(self) -> Tensor: ...
    @property
    def temperature(self) -> float: ...

    def loss(self, log_probabilities: Tensor, rows: slice) -> Tensor:
        """The sum over the rows, a float32 scalar; `log_probabilities` [len(rows), k], of the softmax at `temperature`."""
        ...


class AnswerTerm:
    """Cross-entropy of the rows' targets [num_rows], times `weight`."""

    temperature = 1.0

    def __init__(self, targets: Tensor, weight: float = 1.0) -> None:
        self.ids = targets.unsqueeze(1)
        self._weight = weight

    def loss(self, log_probabilities: Tensor, rows: slice) -> Tensor:
        return -self._weight * log_probabilities.sum()


class _ChunkedRowLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, terms: Sequence[RowTerm]) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        needs_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(hidden) if needs_grad else hidden.new_empty(0)
        for start in range(0, hidden.shape[0], CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, hidden.shape[0]))
            num_rows = rows.stop - rows.start
            padded = pad_rows(hidden[rows], round_up(num_rows, TARGET_MULTIPLE), dim=0)
            logits = padded @ head.t()  # [chunk, vocab]
            total += _sum_terms(logits[:num_rows], terms, rows, leave_grad=needs_grad)
            if needs_grad:
                grad[rows] = (logits @ head)[:num_rows]
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype), None, None


def _sum_terms(logits: Tensor, terms: Sequence[RowTerm], rows: slice, leave_grad: bool) -> Tensor:
    """The terms' losses of these rows. With `leave_grad` the logits become their own gradient."""
    normalizers = {term.temperature: torch.empty(len(logits)) for term in terms}
    for temperature, normalizer in normalizers.items():
        for start in range(0, len(logits), _SOFTMAX_ROWS):
            block = slice(start, start + _SOFTMAX_ROWS)
            normalizer[block] = torch.logsumexp(logits[block].float() / temperature, dim=-1)
    with torch.enable_grad():
        chosen = [
            (logits.gather(1, term.ids[rows]).float() / term.temperature)
            .sub_(normalizers[term.temperature].unsqueeze(1))
            .detach()
            .requires_grad_(leave_grad)
            for term in terms
        ]
        loss: Tensor = torch.stack(
            [term.loss(one, rows) for term, one in zip(terms, chosen, strict=True)]
        ).sum()
    if leave_grad:
        _write_gradient(
            logits,
            terms,
            rows,
            normalizers,
            chosen,
            torch.autograd.grad(loss, chosen, materialize_grads=True),
        )
    return loss.detach()


def _write_gradient(
    logits: Tensor,
    terms: Sequence[RowTerm],
    rows: slice,
    normalizers: dict[float, Tensor],
    chosen: Sequence[Tensor],
    chosen_grads: Sequence[Tensor],
) -> None:
    """With g the gradient of a row's chosen log-probabilities, that of its logits is g at their places, minus sum(g) times
    the probabilities; all divided by the temperature.
    """
    for start in range(0, len(logits), _SOFTMAX_ROWS):
        block = slice(start, min(start + _SOFTMAX_ROWS, len(logits)))
        wide = logits[block].float()
        result = torch.zeros_like(wide) if len(normalizers) > 1 else None
        for temperature, normalizer in normalizers.items():
            own = [index for index, term in enumerate(terms) if term.temperature == temperature]
            mass = torch.stack([chosen_grads[index][block].sum(1) for index in own]).sum(0)
            part = wide / temperature
            part.sub_(normalizer[block].unsqueeze(1)).exp_().mul_(-mass.unsqueeze(1))
            for index in own:
                ids, grads = terms[index].ids[rows][block], chosen_grads[index][block]
                _add_at(part, ids, grads, mass, chosen[index][block])
            part.div_(temperature)
            result = part if result is None else result.add_(part)
        assert result is not None, "there is at least one term"
        logits[block] = result.to(logits.dtype)


def _add_at(part: Tensor, ids: Tensor, grads: Tensor, mass: Tensor, chosen: Tensor) -> None:
    """Add the gradients at their places. A row's only one cancels almost exactly where the token is almost certain: there
    expm1 keeps what is left.
    """
    if ids.shape[1] == 1 and torch.equal(grads[:, 0], mass):
        part.scatter_(1, ids, -grads * torch.expm1(chosen.detach()))
    else:
        part.scatter_add_(1, ids, grads)


def chunked_row_loss(hidden: Tensor, head: Tensor, terms: Sequence[RowTerm]) -> Tensor:
    """The sum of the terms over all rows, a float32 scalar.

    hidden: [num_rows, hidden_size]; head: [vocab_size, hidden_size], which gets no gradient. The gradient equals that of
    the plain losses up to the rounding of the dtype.
    """
    loss: Tensor = _ChunkedRowLoss.apply(hidden, head, terms)  # type: ignore[no-untyped-call]
    return loss


def chunked_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """The sum of the cross-entropies of `targets` [num_rows], int64; otherwise as `chunked_row_loss`."""
    return chunked_row_loss(hidden, head, (AnswerTerm(targets),))
