"""What comes of adding an intent: accepted or not, what it costs the others, how long it took. Pure data."""

from dataclasses import dataclass

COST_LIMIT = 0.5  # points of held-out accuracy that the other intents may lose
MIN_EXAMPLES = 4
LEAST_RECALL = 0.5  # of the examples themselves; an intent that finds fewer is no use and is refused
RECALL_WARNING = 0.7  # of the examples themselves; below it they contradict each other or the trained intents


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedIntent:
    """The outcome of `Delegator.add_intent`. When `accepted` is False nothing has changed, and `message` says why.

    `cost_points` is the held-out accuracy that all other intents together lose, `specialist_cost_points` the one that
    the specialists lose, in points of 100. `example_recall` is the share of the examples that are now routed to the
    intent, in [0, 1]. `flags` are warnings about an accepted intent. `ms` is the wall time in milliseconds.
    """

    name: str
    accepted: bool
    cost_points: float
    specialist_cost_points: float
    example_recall: float
    flags: tuple[str, ...]
    message: str
    ms: float
