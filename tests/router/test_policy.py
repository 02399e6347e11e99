"""The policy's tables: what is accepted, what falls back and why, what stays, what is refused as our own mistake."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.decision import RoutingReason, SessionState
from router.intents import INTENTS
from router.policy import Policy, decide, nothing_to_classify, restrict, stands_alone

PLAIN = Policy(threshold=0.5)


@pytest.mark.parametrize(
    ("scores", "policy", "intent", "reason"),
    [
        ({"math": 0.9, "general": 0.1}, PLAIN, "math", "confident"),
        # A tie goes to the first; the threshold is inclusive.
        ({"math": 0.5, "general": 0.5}, PLAIN, "math", "confident"),
        ({"math": 0.34, "code": 0.33, "general": 0.33}, PLAIN, "math", "low_confidence"),
        ({"math": 0.4, "general": 0.6}, Policy(threshold=0.7), "general", "out_of_scope"),
        ({"math": 0.0, "general": 1.0}, Policy(threshold=1.0), "general", "out_of_scope"),
        (
            {"math": 0.8, "code": 0.2},
            Policy(threshold=0.5, by_intent={"math": 0.9}),
            "math",
            "low_confidence",
        ),
        ({"math": 0.8, "code": 0.2}, Policy(threshold=0.9, by_intent={"math": 0.5}), "math", "confident"),
        ({"math": 0.8, "code": 0.2}, Policy(threshold=0.5, by_intent={"code": 0.9}), "math", "confident"),
        ({"math": 0.52, "code": 0.48}, Policy(threshold=0.5, margin=0.1), "math", "ambiguous"),
        ({"math": 0.6, "code": 0.4}, Policy(threshold=0.5, margin=0.1), "math", "confident"),
        ({"math": 1.0}, Policy(threshold=0.5, margin=1.0), "math", "confident"),
        ({"math": 0.3, "code": 0.7}, Policy(threshold=0.8, margin=0.9), "code", "low_confidence"),
    ],
)
def test_decide(scores: dict[str, float], policy: Policy, intent: str, reason: str):
    decision = decide(scores, policy, route_ms=1.5)
    assert (decision.intent, decision.reason.value) == (intent, reason)
    assert decision.accepted is (reason == "confident")
    assert decision.confidence == scores[intent]
    assert decision.threshold == policy.threshold_of(intent)
    assert (decision.route_ms, dict(decision.scores), decision.session) == (1.5, scores, None)
    assert decision.margin == pytest.approx(
        scores[intent] - max([s for n, s in scores.items() if n != intent] or [0])
    )


@pytest.mark.parametrize(
    ("scores", "session", "is_alone", "intent", "reason"),
    [
        # Another intent leads by less than `switch`: the conversation stays.
        ({"math": 0.3, "code": 0.6, "general": 0.1}, "math", False, "math", "session"),
        ({"math": 0.3, "code": 0.1, "general": 0.6}, "math", False, "math", "session"),
        # By as much: it leaves.
        ({"math": 0.25, "code": 0.75, "general": 0.0}, "math", False, "code", "confident"),
        ({"math": 0.1, "code": 0.1, "general": 0.8}, "math", False, "general", "out_of_scope"),
        # A message that was clear without its context leaves by any lead.
        ({"math": 0.45, "code": 0.55}, "math", True, "code", "confident"),
        # The conversation's own intent is an ordinary decision.
        ({"math": 0.9, "code": 0.1}, "math", False, "math", "confident"),
        ({"math": 0.4, "code": 0.3, "general": 0.3}, "math", False, "math", "low_confidence"),
        # The base is never stayed with, nor an intent that is gone or no candidate.
        ({"math": 0.6, "general": 0.4}, "general", False, "math", "confident"),
        ({"math": 0.6, "general": 0.4}, "banking", False, "math", "confident"),
    ],
)
def test_a_conversation_stays_unless_another_intent_is_clear(
    scores: dict[str, float], session: str, is_alone: bool, intent: str, reason: str
):
    state = SessionState(intent=session, turns=2)
    decision = decide(scores, Policy(threshold=0.5, switch=0.5), 0.0, session=state, is_alone=is_alone)
    assert (decision.intent, decision.reason.value) == (intent, reason)
    assert decision.accepted is (reason in {"confident", "session"})
    assert decision.session == state


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (None, {"math": 0.5, "code": 0.25, "general": 0.25}),
        ({"math"}, {"math": 2 / 3, "general": 1 / 3}),
        ({"code", "general"}, {"code": 0.5, "general": 0.5}),
        ({"general"}, {"general": 1.0}),
        ({"unheard of"}, {"general": 1.0}),
        (set(), {"general": 1.0}),
    ],
)
def test_restrict(candidates: set[str] | None, expected: dict[str, float]):
    scores = {"math": 0.5, "code": 0.25, "general": 0.25}
    assert restrict(scores, candidates) == pytest.approx(expected)


def test_restricted_to_what_has_no_probability_is_general():
    assert restrict({"math": 0.0, "code": 1.0, "general": 0.0}, {"math"}) == {"general": 1.0}


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf])
def test_a_score_that_is_no_probability_is_refused(score: float):
    with pytest.raises(ValueError, match="'math'"):
        decide({"math": score, "general": 0.0}, PLAIN, 0.0)


def test_no_scores_are_refused():
    with pytest.raises(ValueError, match="no scores"):
        decide({}, PLAIN, 0.0)


@pytest.mark.parametrize("field", ["threshold", "margin", "stands_alone", "switch"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_policy_outside_probabilities_is_refused(field: str, value: float):
    with pytest.raises(ValueError, match=field):
        Policy(**{"threshold": 0.5, field: value})
    with pytest.raises(ValueError, match="math"):
        Policy(threshold=0.5, by_intent={"math": value})


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"math": 0.95, "general": 0.05}, True),
        ({"math": 0.6, "code": 0.4}, False),
        ({"math": 0.05, "general": 0.95}, False),  # small talk may be a follow-up
    ],
)
def test_a_clear_message_stands_alone(scores: dict[str, float], expected: bool):
    assert stands_alone(scores, PLAIN) is expected


def test_nothing_to_classify():
    decision = nothing_to_classify(PLAIN, 0.1)
    assert (decision.intent, decision.accepted, decision.scores) == ("general", False, {})
    assert decision.reason is RoutingReason.EMPTY


@given(st.lists(st.floats(0, 1), min_size=len(INTENTS), max_size=len(INTENTS)), st.floats(0, 1))
def test_a_decision_is_the_likeliest_intent(values: list[float], threshold: float):
    scores = dict(zip(INTENTS, values, strict=True))
    decision = decide(scores, Policy(threshold=threshold), 0.0)
    assert decision.confidence == max(values)
    if decision.accepted:
        assert decision.intent != "general"
        assert decision.confidence >= threshold
