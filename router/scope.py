"""How well what no specialist should take is told from what one should. Numbers only."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from router.calibration import Floats

COVERAGE = 0.95


def scope_report(
    inside: Floats, outside: Floats, sources: Sequence[str], general: int, coverage: float = COVERAGE
) -> dict[str, Any]:
    """Out-of-scope recall at a coverage, in all and by source.

    `inside` and `outside` are [prompts, intents] probabilities; the score is the probability that any specialist should
    answer. The limit is the score that `coverage` of the prompts in scope reach; what stays below it is told apart.
    """
    score_inside, score_outside = 1 - inside[:, general], 1 - outside[:, general]
    limit = float(np.quantile(score_inside, 1 - coverage))
    told = score_outside < limit
    names = np.array(sources)
    return {
        "coverage": coverage,
        "limit": limit,
        "recall": float(told.mean()),
        "recall_by_source": {name: float(told[names == name].mean()) for name in dict.fromkeys(sources)},
        "auroc": _auroc(score_inside, score_outside),
        "as_served": float((outside.argmax(axis=1) == general).mean()),
    }


def _auroc(high: Floats, low: Floats) -> float:
    """The chance that a prompt in scope scores above one out of scope; equal scores count half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    equal = np.searchsorted(ordered, high, side="right") - below
    return float((below + 0.5 * equal).mean() / len(low))
