"""Adds intents while serving: one more row of the head, fitted over cached vectors, in milliseconds.

The trained rows stay as they are. The new row is a logistic regression of the new examples against the bank, with the
other intents' logits as its offset, so that all of them share one distribution; its bias is then moved as far towards the
new intent as the bank allows. The alternative, a prototype (the examples' mean direction), is kept to be measured beside it.
Pure numpy; nothing here knows text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from router.calibration import Floats

# Measured on BANKING77 (docs/router.md): more examples need a weaker ridge than they get by their number alone.
RIDGE = 3e-5
NEW_WEIGHT = 0.2  # of all new examples together; the bank's rows together weigh 1
BANK_LOSS = 0.006  # share of the bank's fitting rows that the bias may cost
_NEWTON_STEPS = 25
_MAIN_DIRECTIONS = 256


@dataclass(frozen=True, slots=True)
class HotRow:
    """One added row of the head: a prompt's logit is `weight @ vector + bias`, in calibrated units."""

    weight: Floats  # [width]
    bias: float


Fit = Callable[[Floats, Floats, Floats, Floats], HotRow]  # new vectors, their logits, old ones, their logits


def fit_head(new: Floats, new_logits: Floats, old: Floats, old_logits: Floats) -> HotRow:
    """A row fitted to `new` ([examples, width]) against `old`, the bank's fitting rows ([rows, width]).

    `new_logits` and `old_logits` ([..., intents]) are the calibrated logits of the intents there already are.
    """
    basis = _basis(new, old)
    inputs = np.concatenate([new, old]) @ basis
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    offsets = np.concatenate([_log_sum(new_logits), _log_sum(old_logits)])
    labels = np.concatenate([np.ones(len(new)), np.zeros(len(old))])
    weights = np.concatenate([np.full(len(new), NEW_WEIGHT / len(new)), np.full(len(old), 1 / len(old))])
    solution = _newton(inputs, offsets, labels, weights)
    row = HotRow(basis @ solution[:-1], float(solution[-1]))
    return _shifted(row, old, old_logits)


def _basis(new: Floats, old: Floats) -> Floats:
    """Orthonormal directions, [width, directions]: the main ones of `old`, and what `new` has beside them; of many new
    rows the main ones of both.

    A fit within them finds what one without them finds (recall within half a point) in a tenth of the time.
    """
    are_few = len(new) <= _MAIN_DIRECTIONS // 2
    _, directions = np.linalg.eigh(old.T @ old if are_few else old.T @ old + new.T @ new)
    main = directions[:, -_MAIN_DIRECTIONS:]
    if not are_few:
        return np.ascontiguousarray(main)
    rest, _ = np.linalg.qr((new - new @ main @ main.T).T)
    result: Floats = np.concatenate([main, rest], axis=1)
    return result if result.shape[1] < result.shape[0] else np.eye(len(result))


def fit_prototype(new: Floats, new_logits: Floats, old: Floats, old_logits: Floats) -> HotRow:
    """A row along the mean direction of `new`, as steep as the trained rows' logits are on average."""
    mean = new.mean(axis=0)
    direction = mean / max(float(np.linalg.norm(mean)), 1e-12)
    steepness = float(np.abs(old_logits).mean()) * 4
    return _shifted(HotRow(direction * steepness, 0.0), old, old_logits)


def logits_of(rows: Sequence[HotRow], vectors: Floats) -> Floats:
    """Logits of the added rows, [vectors, rows]."""
    result: Floats = np.stack([vectors @ row.weight + row.bias for row in rows], axis=1)
    return result


def _shifted(row: HotRow, old: Floats, old_logits: Floats) -> HotRow:
    """The row with the bias at which BANK_LOSS of the bank's fitting rows would go to it."""
    leads = old @ row.weight + row.bias - old_logits.max(axis=1)
    return HotRow(row.weight, row.bias - float(np.quantile(leads, 1 - BANK_LOSS)))


def _log_sum(logits: Floats) -> Floats:
    highest = logits.max(axis=1)
    result: Floats = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return result


def _newton(inputs: Floats, offsets: Floats, labels: Floats, weights: Floats) -> Floats:
    """Weighted logistic regression with a ridge on all but the last column, by damped Newton steps."""
    solution = np.zeros(inputs.shape[1])
    ridge = np.full(inputs.shape[1], 2 * RIDGE)
    ridge[-1] = 1e-9
    loss = _loss(inputs, offsets, labels, weights, ridge, solution)
    for _ in range(_NEWTON_STEPS):
        probabilities = 1 / (1 + np.exp(-np.clip(inputs @ solution - offsets, -60, 60)))
        gradient = inputs.T @ ((probabilities - labels) * weights) + ridge * solution
        curvature = weights * np.maximum(probabilities * (1 - probabilities), 1e-9)
        step = np.linalg.solve((inputs.T * curvature) @ inputs + np.diag(ridge), gradient)
        size = 1.0
        while size > 1e-4:
            tried = solution - size * step
            tried_loss = _loss(inputs, offsets, labels, weights, ridge, tried)
            if tried_loss <= loss:
                break
            size /= 2
        if size <= 1e-4 or loss - tried_loss < 1e-7:
            break
        solution, loss = tried, tried_loss
    return solution


def _loss(
    inputs: Floats, offsets: Floats, labels: Floats, weights: Floats, ridge: Floats, solution: Floats
) -> float:
    leads = inputs @ solution - offsets
    losses = np.logaddexp(0.0, np.where(labels > 0.5, -leads, leads))
    return float((losses * weights).sum() + 0.5 * (ridge * solution**2).sum())
