"""Which items a limit takes, and in which order: decided by a seed, never by chance."""

import random
from collections.abc import Sequence

from specialists.evaluation.task import ItemT


def shuffle_items(items: Sequence[ItemT], seed: int, limit: int | None) -> list[ItemT]:
    """The first `limit` of a fixed random order: a larger limit adds items and drops none."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:limit]


def draw_items(items: Sequence[ItemT], seed: int, limit: int | None) -> list[ItemT]:
    """The same sample in the order of the data, in which items of one context are neighbours."""
    if limit is None or limit >= len(items):
        return list(items)
    drawn = {item.id for item in shuffle_items(items, seed, limit)}
    return [item for item in items if item.id in drawn]
