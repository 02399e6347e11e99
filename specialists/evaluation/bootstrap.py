"""How far a measured mean can be trusted: percentile bootstrap over the items of a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 10_000
_BATCH = 250


def bootstrap_interval(scores: Sequence[float], seed: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of `scores` (one per item). Raises ValueError when there are none."""
    if not scores:
        raise ValueError("a bootstrap needs at least one score")
    values = np.asarray(scores, dtype=np.float64)
    generator = np.random.default_rng(seed)
    # In batches: all resamples at once would take num_items * 80 kB.
    batches = [
        values[generator.integers(0, len(values), (_BATCH, len(values)))].mean(axis=1)
        for _ in range(NUM_RESAMPLES // _BATCH)
    ]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(np.concatenate(batches), [tail, 1.0 - tail])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference with its 95% interval, in the unit of the scores."""

    mean: float
    low: float
    high: float


def paired_difference(before: Mapping[str, float], after: Mapping[str, float], seed: int) -> Difference:
    """`after` minus `before` over the same items, resampled by items. Raises ValueError when the items differ."""
    if before.keys() != after.keys():
        raise ValueError(
            f"not the same items: {len(before)} and {len(after)}, {len(before.keys() & after.keys())} shared"
        )
    changes = [after[key] - before[key] for key in before]
    return Difference(sum(changes) / len(changes), *bootstrap_interval(changes, seed))
