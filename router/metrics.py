"""What a set of decisions is worth: accuracy, macro-F1, per source, calibration, confusion. Numbers only."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score

from router.calibration import Floats, expected_calibration_error


def measure(
    probabilities: Floats,
    labels: Sequence[int],
    sources: Sequence[str],
    intents: Sequence[str],
    threshold: float,
) -> dict[str, Any]:
    """A JSON-ready report on [prompts, intents] probabilities. Shares and errors are in [0, 1].

    `accuracy` counts every prompt the same, `source_accuracy_mean` every source; `accepted` is the share of
    prompts whose confidence reached the threshold, `accepted_accuracy` the accuracy among them.
    """
    truth = np.asarray(labels, dtype=np.int64)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = predicted == truth
    by_source: dict[str, list[bool]] = defaultdict(list)
    for source, right in zip(sources, correct.tolist(), strict=True):
        by_source[source].append(right)
    accuracies = {name: float(np.mean(values)) for name, values in by_source.items()}
    accepted = confidence >= threshold
    present = sorted(set(labels))
    return {
        "prompts": len(labels),
        "accuracy": float(correct.mean()),
        "source_accuracy_mean": float(np.mean(list(accuracies.values()))),
        "macro_f1": float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0.0)),
        "ece": expected_calibration_error(confidence, correct),
        "accepted": float(accepted.mean()),
        "accepted_accuracy": float(correct[accepted].mean()) if accepted.any() else 0.0,
        "by_source": {
            name: {"prompts": len(by_source[name]), "accuracy": accuracies[name]} for name in by_source
        },
        "confusion": {
            "intents": list(intents),
            "rows_true_columns_predicted": confusion_matrix(
                truth, predicted, labels=range(len(intents))
            ).tolist(),
        },
    }
