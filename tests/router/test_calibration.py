"""Temperature, threshold and calibration error on distributions whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.calibration import (
    expected_calibration_error,
    fit_temperature,
    fit_threshold,
    negative_log_likelihood,
    reliability,
    softmax,
)


def _sampled(scale: float, prompts: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from their own softmax, then multiplied by `scale`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(prompts, 4)) * 2
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(scale: float):
    logits, labels = _sampled(scale)
    assert fit_temperature(logits, labels) == pytest.approx(scale, rel=0.1)


def test_the_fitted_temperature_is_no_worse_than_its_neighbors():
    logits, labels = _sampled(2.0)
    temperature = fit_temperature(logits, labels)
    best = negative_log_likelihood(logits, labels, temperature)
    assert all(best <= negative_log_likelihood(logits, labels, temperature * f) for f in (0.9, 1.1))


def test_weights_choose_whose_calibration_counts():
    sharp, labels = _sampled(3.0)
    flat, flat_labels = _sampled(1.0)
    logits, both = np.vstack([sharp, flat]), np.concatenate([labels, flat_labels])
    weights = np.concatenate([np.ones(len(labels)), np.zeros(len(flat_labels))])
    assert fit_temperature(logits, both, weights) == pytest.approx(3.0, rel=0.1)


def test_calibration_error_of_known_cases():
    assert expected_calibration_error(np.full(10, 0.8), np.array([True] * 8 + [False] * 2)) == pytest.approx(
        0.0
    )
    assert expected_calibration_error(np.full(10, 1.0), np.array([True] * 5 + [False] * 5)) == pytest.approx(
        0.5
    )


def test_the_threshold_is_the_lowest_that_reaches_the_precision():
    confidences = np.array([0.3, 0.4, 0.6, 0.7, 0.9])
    correct = np.array([False, False, True, True, True])
    assert fit_threshold(confidences, correct, precision=1.0) == pytest.approx(0.41)
    assert fit_threshold(confidences, correct, precision=0.6) == 0.0
    assert fit_threshold(confidences, np.zeros(5, dtype=bool), precision=0.9) == 0.95


def test_nothing_to_fit_on_is_refused():
    empty = np.zeros((0, 4))
    with pytest.raises(ValueError, match="no prompts"):
        fit_temperature(empty, np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match="no prompts"):
        expected_calibration_error(np.zeros(0), np.zeros(0, dtype=bool))


@given(st.lists(st.floats(-500, 500), min_size=2, max_size=7), st.floats(0.05, 20))
def test_softmax_is_a_distribution_and_keeps_the_order(logits: list[float], temperature: float):
    probabilities = softmax(np.array(logits), temperature)
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[int(np.argmax(logits))] == probabilities.max()


def test_reliability_bins_hold_every_prompt():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.5, 0.5]])
    bins = reliability(probabilities, np.array([0, 1, 1, 0]), bins=5)
    assert [entry["prompts"] for entry in bins] == [1, 1, 2]
    assert bins[-1] == {"confidence": pytest.approx(0.925), "accuracy": 0.5, "prompts": 2}
    assert bins[0]["accuracy"] == 1.0
