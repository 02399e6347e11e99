"""The report's numbers on a table small enough to count by hand."""

import numpy as np
import pytest

from router.metrics import measure


def test_measure_counts():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    report = measure(probabilities, [0, 1, 1, 0], ["a", "a", "b", "b"], ["math", "code"], threshold=0.65)
    assert report["accuracy"] == 0.75
    assert report["by_source"] == {"a": {"prompts": 2, "accuracy": 0.5}, "b": {"prompts": 2, "accuracy": 1.0}}
    assert report["source_accuracy_mean"] == 0.75
    assert report["confusion"]["rows_true_columns_predicted"] == [[2, 0], [1, 1]]
    assert (report["accepted"], report["accepted_accuracy"]) == (0.75, 1.0)
    assert report["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_nothing_accepted_is_no_accuracy():
    report = measure(np.array([[0.6, 0.4]]), [0], ["a"], ["math", "code"], threshold=0.9)
    assert (report["accepted"], report["accepted_accuracy"]) == (0.0, 0.0)
