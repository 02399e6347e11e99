"""From a distribution to a decision: thresholds, margin, scope, candidates, sessions. Pure Python, no model."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from router.decision import RoutingDecision, RoutingReason, SessionState
from router.intents import GENERAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a specialist may answer. All values are probabilities or differences of them, in [0, 1].

    `by_intent` replaces `threshold` for single intents. `margin` is the least distance to the second intent.
    `stands_alone` is the probability from which a last message is read without the one before it. `switch` is the
    distance by which another intent must lead for a conversation to leave its specialist.
    """

    threshold: float
    by_intent: Mapping[str, float] = field(default_factory=dict)
    margin: float = 0.0
    stands_alone: float = 0.8
    switch: float = 0.5

    def __post_init__(self) -> None:
        fields = {
            "threshold": self.threshold,
            "margin": self.margin,
            "stands_alone": self.stands_alone,
            "switch": self.switch,
        }
        for name, value in {**fields, **self.by_intent}.items():
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise ValueError(f"{name} is {value}; it must be between 0 and 1")

    def threshold_of(self, intent: str) -> float:
        """The threshold that holds for an intent."""
        return self.by_intent.get(intent, self.threshold)


def stands_alone(scores: Mapping[str, float], policy: Policy) -> bool:
    """Whether a message, read alone, clearly asks for a specialist.

    "What is 17 * 23?" does, whatever was said before; "and now shorter" looks general alone and needs its context.
    """
    intent = _first(scores)
    return intent != GENERAL and scores[intent] >= policy.stands_alone


def restrict(scores: Mapping[str, float], candidates: Collection[str] | None) -> dict[str, float]:
    """The distribution over the candidates and `general`, made to sum to 1; all of it when there are none.

    A candidate without a score is no intent of this delegator and is left out.
    """
    if candidates is None:
        return dict(scores)
    kept = {name: score for name, score in scores.items() if name in candidates or name == GENERAL}
    total = sum(kept.values())
    if not kept or total <= 0.0:
        return {GENERAL: 1.0}
    return {name: score / total for name, score in kept.items()}


def decide(
    scores: Mapping[str, float],
    policy: Policy,
    route_ms: float,
    *,
    session: SessionState | None = None,
    is_alone: bool = False,
) -> RoutingDecision:
    """The likeliest intent (ties go to the first listed), accepted when it is in scope, sure and clear enough.

    A conversation that has a specialist stays with it unless another intent leads by `policy.switch`, or the message
    `is_alone`: read without its context it asked clearly for another. Raises ValueError when there are no scores, or
    one is not a probability.
    """
    _check(scores)
    intent = _first(scores)
    if session is not None and not is_alone and _stays(scores, intent, session, policy):
        return _decision(session.intent, scores, policy, route_ms, session, RoutingReason.SESSION)
    return _decision(intent, scores, policy, route_ms, session, _reason(scores, intent, policy))


def nothing_to_classify(policy: Policy, route_ms: float) -> RoutingDecision:
    """The decision for a conversation without user text: the general base answers."""
    return RoutingDecision(
        intent=GENERAL,
        confidence=0.0,
        accepted=False,
        reason=RoutingReason.EMPTY,
        scores={},
        threshold=policy.threshold_of(GENERAL),
        route_ms=route_ms,
    )


def _check(scores: Mapping[str, float]) -> None:
    if not scores:
        raise ValueError("no scores to decide on")
    for intent, score in scores.items():
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise ValueError(f"the score of {intent!r} is {score}, not a probability")


def _first(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])


def _margin(scores: Mapping[str, float], intent: str) -> float:
    return scores[intent] - max((score for name, score in scores.items() if name != intent), default=0.0)


def _stays(scores: Mapping[str, float], intent: str, session: SessionState, policy: Policy) -> bool:
    # A conversation with the base is free to find a specialist: only specialists are stayed with.
    if session.intent == GENERAL or session.intent not in scores or intent == session.intent:
        return False
    return scores[intent] - scores[session.intent] < policy.switch


def _reason(scores: Mapping[str, float], intent: str, policy: Policy) -> RoutingReason:
    if intent == GENERAL:
        return RoutingReason.OUT_OF_SCOPE
    if scores[intent] < policy.threshold_of(intent):
        return RoutingReason.LOW_CONFIDENCE
    return RoutingReason.AMBIGUOUS if _margin(scores, intent) < policy.margin else RoutingReason.CONFIDENT


def _decision(
    intent: str,
    scores: Mapping[str, float],
    policy: Policy,
    route_ms: float,
    session: SessionState | None,
    reason: RoutingReason,
) -> RoutingDecision:
    return RoutingDecision(
        intent=intent,
        confidence=scores[intent],
        accepted=reason in {RoutingReason.CONFIDENT, RoutingReason.SESSION},
        reason=reason,
        scores=dict(scores),
        threshold=policy.threshold_of(intent),
        route_ms=route_ms,
        margin=_margin(scores, intent),
        session=session,
    )
