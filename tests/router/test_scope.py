"""Recall out of scope at a coverage in scope, on distributions whose answer is known."""

import numpy as np
import pytest

from router.scope import scope_report

GENERAL = 1


def _distributions(general: list[float]) -> np.ndarray:
    return np.array([[1 - share, share] for share in general])


def test_what_is_apart_is_told_apart():
    inside = _distributions([0.01] * 95 + [0.6] * 5)
    outside = _distributions([0.9, 0.95, 0.005, 0.4])
    report = scope_report(inside, outside, ["a", "a", "b", "b"], GENERAL)
    assert report["limit"] == pytest.approx(0.9605)
    assert report["recall"] == pytest.approx(0.75)
    assert report["recall_by_source"] == {"a": 1.0, "b": 0.5}
    assert report["as_served"] == 0.5
    assert 0.9 > report["auroc"] > 0.5


def test_the_same_distributions_are_a_coin_flip():
    same = _distributions(list(np.linspace(0, 1, 200)))
    report = scope_report(same, same, ["a"] * 200, GENERAL)
    assert report["auroc"] == pytest.approx(0.5)
    assert report["recall"] == pytest.approx(0.05, abs=0.01)
