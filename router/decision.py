"""The answer of the delegator. Pure data: no torch, no adapters, no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class RoutingReason(StrEnum):
    """Why a decision came out as it did."""

    CONFIDENT = "confident"  # the classifier was above its threshold
    LOW_CONFIDENCE = "low_confidence"  # below the threshold: the general base answers
    EMPTY = "empty"  # nothing to classify (no user text): the general base answers
    # These are set by the dispatcher, which knows specialists and the request's `model` field.
    NO_SPECIALIST = "no_specialist"  # confident, but no loaded specialist serves the intent
    REQUESTED = "requested"  # the client named the model; nothing was classified


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingDecision:
    """One routing decision: `intent` is the classifier's best guess, `confidence` its calibrated probability.

    `accepted` says whether the confidence sufficed; when False the general base answers. `scores` holds a
    calibrated probability for every intent and sums to 1 (empty when nothing was classified).
    `route_ms` is the wall time of the decision in milliseconds.
    """

    intent: str
    confidence: float
    accepted: bool
    reason: RoutingReason
    scores: Mapping[str, float]
    threshold: float
    route_ms: float
