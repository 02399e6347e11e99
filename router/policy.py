"""From a distribution to a decision: threshold and fallback. Pure Python, no model."""

import math
from collections.abc import Mapping

from router.decision import RoutingDecision, RoutingReason
from router.intents import GENERAL

# A last message this clear is read without the one before it, which would only pull towards the old subject.
STANDS_ALONE = 0.8


def stands_alone(scores: Mapping[str, float]) -> bool:
    """Whether a message, read alone, clearly asks for a specialist.

    "What is 17 * 23?" does, whatever was said before; "and now shorter" looks general alone and needs its context.
    """
    intent = max(scores, key=lambda name: scores[name])
    return intent != GENERAL and scores[intent] >= STANDS_ALONE


def decide(scores: Mapping[str, float], threshold: float, route_ms: float) -> RoutingDecision:
    """The likeliest intent, accepted when its probability reaches `threshold` (ties go to the first listed).

    Raises ValueError when there are no scores, or one is not a probability.
    """
    if not scores:
        raise ValueError("no scores to decide on")
    for intent, score in scores.items():
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise ValueError(f"the score of {intent!r} is {score}, not a probability")
    intent = max(scores, key=lambda name: scores[name])
    confidence = scores[intent]
    accepted = confidence >= threshold
    return RoutingDecision(
        intent=intent,
        confidence=confidence,
        accepted=accepted,
        reason=RoutingReason.CONFIDENT if accepted else RoutingReason.LOW_CONFIDENCE,
        scores=dict(scores),
        threshold=threshold,
        route_ms=route_ms,
    )


def nothing_to_classify(threshold: float, route_ms: float) -> RoutingDecision:
    """The decision for a conversation without user text: the general base answers."""
    return RoutingDecision(
        intent=GENERAL,
        confidence=0.0,
        accepted=False,
        reason=RoutingReason.EMPTY,
        scores={},
        threshold=threshold,
        route_ms=route_ms,
    )
