"""The policy's table: what is accepted, what falls back, what is refused as our own mistake."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.decision import RoutingReason
from router.intents import INTENTS
from router.policy import decide, nothing_to_classify, stands_alone


@pytest.mark.parametrize(
    ("scores", "threshold", "intent", "accepted"),
    [
        ({"math": 0.9, "general": 0.1}, 0.5, "math", True),
        (
            {"math": 0.5, "general": 0.5},
            0.5,
            "math",
            True,
        ),  # a tie goes to the first; the threshold is inclusive
        ({"math": 0.4, "general": 0.6}, 0.7, "general", False),
        ({"math": 0.34, "code": 0.33, "general": 0.33}, 0.5, "math", False),
        ({"math": 0.0, "general": 1.0}, 1.0, "general", True),
        ({"math": 0.2, "general": 0.8}, 0.0, "general", True),
    ],
)
def test_decide(scores: dict[str, float], threshold: float, intent: str, accepted: bool):
    decision = decide(scores, threshold, route_ms=1.5)
    assert (decision.intent, decision.accepted) == (intent, accepted)
    assert decision.confidence == scores[intent]
    assert decision.reason is (RoutingReason.CONFIDENT if accepted else RoutingReason.LOW_CONFIDENCE)
    assert (decision.threshold, decision.route_ms, dict(decision.scores)) == (threshold, 1.5, scores)


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf])
def test_a_score_that_is_no_probability_is_refused(score: float):
    with pytest.raises(ValueError, match="'math'"):
        decide({"math": score, "general": 0.0}, 0.5, 0.0)


def test_no_scores_are_refused():
    with pytest.raises(ValueError, match="no scores"):
        decide({}, 0.5, 0.0)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"math": 0.95, "general": 0.05}, True),
        ({"math": 0.6, "code": 0.4}, False),
        ({"math": 0.05, "general": 0.95}, False),  # small talk may be a follow-up
    ],
)
def test_a_clear_message_stands_alone(scores: dict[str, float], expected: bool):
    assert stands_alone(scores) is expected


def test_nothing_to_classify_falls_back_to_general():
    decision = nothing_to_classify(0.6, 0.1)
    assert (decision.intent, decision.accepted, decision.reason) == ("general", False, RoutingReason.EMPTY)
    assert dict(decision.scores) == {}


@given(st.lists(st.floats(0, 1), min_size=len(INTENTS), max_size=len(INTENTS)), st.floats(0, 1))
def test_the_likeliest_wins_and_the_threshold_decides(values: list[float], threshold: float):
    decision = decide(dict(zip(INTENTS, values, strict=True)), threshold, 0.0)
    assert decision.confidence == max(values)
    assert decision.accepted == (max(values) >= threshold)
