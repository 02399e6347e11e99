"""Makes confidences mean what they say: a temperature, a threshold, and the error that measures them."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities along the last axis of [..., intents] logits."""
    scaled = logits / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: Floats = exponents / exponents.sum(axis=-1, keepdims=True)
    return result


def negative_log_likelihood(
    logits: Floats, labels: Ints, temperature: float, weights: Floats | None = None
) -> float:
    """Mean over prompts, in nats; `weights` ([prompts]) lets each source count the same."""
    chosen = softmax(logits, temperature)[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(chosen, 1e-12)), weights=weights))


def fit_temperature(logits: Floats, labels: Ints, weights: Floats | None = None) -> float:
    """The temperature in [0.05, 20] with the least negative log likelihood. Logits [prompts, intents]."""
    if len(labels) == 0:
        raise ValueError("no prompts to fit a temperature on")
    low, high = math.log(0.05), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2  # golden-section search: the likelihood is unimodal in log temperature
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if negative_log_likelihood(logits, labels, math.exp(left), weights) < negative_log_likelihood(
            logits, labels, math.exp(right), weights
        ):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def expected_calibration_error(confidences: Floats, correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their prompts.

    In [0, 1].
    """
    if len(confidences) == 0:
        raise ValueError("no prompts to measure calibration on")
    index = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    error = 0.0
    for number in range(bins):
        inside = index == number
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean())
    return float(error)


def reliability(probabilities: Floats, labels: Ints, bins: int = 15) -> list[dict[str, float]]:
    """Mean confidence, accuracy and number of prompts of each equal-width bin that has any, from the lowest up."""
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    index = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    return [
        {
            "confidence": float(confidences[index == number].mean()),
            "accuracy": float(correct[index == number].mean()),
            "prompts": int((index == number).sum()),
        }
        for number in range(bins)
        if (index == number).any()
    ]


def fit_threshold(confidences: Floats, correct: NDArray[np.bool_], precision: float) -> float:
    """The lowest threshold in [0, 0.95] above which at least `precision` of the decisions are right.

    0.95 when none reaches it: a threshold nothing passes would switch the specialists off.
    """
    for threshold in np.arange(0.0, 0.951, 0.01):
        accepted = confidences >= threshold
        if accepted.any() and correct[accepted].mean() >= precision:
            return round(float(threshold), 2)
    return 0.95
