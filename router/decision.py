"""What is asked of the delegator and what it answers. Pure data: no torch, no adapters, no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class RoutingReason(StrEnum):
    """Why a decision came out as it did."""

    CONFIDENT = "confident"  # the classifier was above its threshold
    SESSION = "session"  # the conversation stays with its specialist: nothing called clearly for another
    LOW_CONFIDENCE = "low_confidence"  # below the intent's threshold: the general base answers
    AMBIGUOUS = "ambiguous"  # two intents are too close to each other: the general base answers
    OUT_OF_SCOPE = "out_of_scope"  # no specialist's domain (small talk, gibberish): the general base answers
    EMPTY = "empty"  # nothing to classify (no user text): the general base answers
    # These are set by the dispatcher, which knows specialists and the request's `model` field.
    NO_SPECIALIST = "no_specialist"  # confident, but no loaded specialist serves the intent
    REQUESTED = "requested"  # the client named the model; nothing was classified


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingOptions:
    """What a request may say about its routing.

    `candidates` are the intents to choose from (None: all; the general base is always there to fall back on).
    `session` names a conversation; without it the history's fingerprint does. `user` names whoever speaks: it
    carries a conversation on when the history says that there is one. `explain` asks for the nearest examples.
    `remember` is False for a question about routing, which must leave the session as it is.
    """

    candidates: frozenset[str] | None = None
    session: str | None = None
    user: str | None = None
    explain: bool = False
    remember: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """Where a conversation stands: the intent it has, and how many turns it has had (the present one not)."""

    intent: str
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestExample:
    """An example prompt of an intent, and its cosine with the prompt, in [-1, 1]."""

    text: str
    intent: str
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingDecision:
    """One routing decision: `intent` is where the prompt belongs, `confidence` its calibrated probability.

    `accepted` says whether a specialist of that intent may answer; when False the general base answers. `scores` holds
    a calibrated probability for every intent that could be chosen and sums to 1 (empty when nothing was classified).
    `threshold` is the one of `intent`; `margin` is the distance to the second likeliest intent. `route_ms` is the
    wall time of the decision in milliseconds. `session` is the conversation's state before this turn, None without
    one; `nearest` is filled when it was asked for.
    """

    intent: str
    confidence: float
    accepted: bool
    reason: RoutingReason
    scores: Mapping[str, float]
    threshold: float
    route_ms: float
    margin: float = 0.0
    session: SessionState | None = None
    nearest: tuple[NearestExample, ...] = ()
