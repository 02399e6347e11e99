"""Choosing the next token of each row, from its own logits, settings and seed: its neighbours do not matter."""

import random
from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor

from specialists.engine.sampling_params import SamplingParams
from specialists.engine.sequence import Sequence

# Enough for nearly every top-p: the sum of the largest probabilities is looked up here before all are sorted.
_LIKELY_ENOUGH = 256


def sample(logits: Tensor, rows: SequenceOf[tuple[Sequence, int]]) -> list[int | None]:
    """logits [num_rows, vocab_size], for each row its sequence and the place its token would have in it -> token ids.

    None for a row whose logits hold a NaN, or no finite maximum: nothing can be said about its next token.
    """
    if not rows:
        return []
    best = greedy(logits)
    highest = logits[torch.arange(len(best)), torch.tensor(best)].float().isfinite().tolist()
    token_ids = [token_id if is_finite else None for token_id, is_finite in zip(best, highest, strict=True)]
    for row, (sequence, place) in enumerate(rows):
        if token_ids[row] is not None and not sequence.params.is_greedy:
            # Counted from the place, so that a preempted sequence draws the same again, and a guessed one as well.
            draw = random.Random(f"{sequence.seed}:{place}").random()
            token_ids[row] = sample_row(logits[row], sequence.params, draw)
    return token_ids


def agreed(draft: SequenceOf[int], token_ids: SequenceOf[int | None]) -> tuple[int, ...]:
    """What a step yields: the token after each row, as long as all drafted tokens before it were guessed right.

    `token_ids` are one more than the draft: they follow the newest token and each of the drafted ones. Nothing when not even
    the first of them is known.
    """
    taken: list[int] = []
    for token_id, guessed in zip(token_ids, [*draft, None], strict=True):
        if token_id is None:
            break
        taken.append(token_id)
        if token_id != guessed:
            break
    return tuple(taken)


def greedy(logits: Tensor) -> list[int]:
    """The most likely token of each row [num_rows, vocab_size]; the lowest id among equals, a NaN before all."""
    if logits.device.type == "cpu":
        # torch's argmax over bf16 rows is not vectorised: 9 ms for 16 rows of 152k where this takes 0.7.
        return logits.float().numpy().argmax(axis=-1).tolist()  # type: ignore[no-any-return]
    return torch.argmax(logits, dim=-1).tolist()


def sample_row(logits: Tensor, params: SamplingParams, draw: float) -> int:
    """One token from logits [vocab_size] by inverting the distribution at `draw`, a number from 0 to below 1."""
    scaled = logits.float() / max(params.temperature, 1e-5)
    if params.top_k == 0 and params.top_p == 1.0:
        return _invert(torch.softmax(scaled, dim=-1), draw)
    probabilities, token_ids = _most_likely(scaled, params)
    return int(token_ids[_invert(probabilities, draw)])


def _most_likely(scaled: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """The tokens that top-k and then top-p keep, with their probabilities renormalised, most likely first."""
    vocab_size = scaled.shape[-1]
    count = min(params.top_k or vocab_size, vocab_size)
    log_total = torch.logsumexp(scaled, dim=-1)
    if params.top_k == 0:
        values, token_ids = torch.topk(scaled, min(_LIKELY_ENOUGH, vocab_size))
        if (values - log_total).exp().sum() < params.top_p:
            values, token_ids = torch.sort(scaled, descending=True)
        probabilities = (values - log_total).exp()
    else:
        values, token_ids = torch.topk(scaled, count)
        probabilities = torch.softmax(values, dim=-1)
    # A token stays while the ones before it have not reached top_p; the first always stays.
    before = probabilities.cumsum(-1) - probabilities
    kept = probabilities.masked_fill(before >= params.top_p, 0.0)
    return kept / kept.sum(), token_ids


def _invert(probabilities: Tensor, draw: float) -> int:
    cumulative = probabilities.double().cumsum(-1)
    index = torch.searchsorted(cumulative, cumulative[-1] * draw, right=True)
    return int(index.clamp(max=len(probabilities) - 1))
