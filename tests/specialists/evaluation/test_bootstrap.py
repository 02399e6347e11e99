import pytest

from specialists.evaluation.bootstrap import bootstrap_interval, paired_difference


def test_the_interval_is_that_of_a_proportion() -> None:
    low, high = bootstrap_interval([1.0] * 60 + [0.0] * 140, seed=1)
    # The normal approximation gives 0.3 plus or minus 1.96 * sqrt(0.3 * 0.7 / 200).
    assert low == pytest.approx(0.3 - 0.0635, abs=0.01)
    assert high == pytest.approx(0.3 + 0.0635, abs=0.01)


def test_the_seed_decides_and_certainty_has_no_width() -> None:
    scores = [0.0, 1.0, 1.0, 0.5]
    assert bootstrap_interval(scores, seed=3) == bootstrap_interval(scores, seed=3)
    assert bootstrap_interval([1.0, 1.0], seed=3) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least one score"):
        bootstrap_interval([], seed=3)


def test_paired_differences_are_of_the_same_items() -> None:
    before = {str(number): float(number % 2) for number in range(100)}
    same = paired_difference(before, before, seed=1)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    better = paired_difference(before, dict.fromkeys(before, 1.0), seed=1)
    assert better.mean == 0.5
    assert 0.35 < better.low < 0.5 < better.high < 0.65
    with pytest.raises(ValueError, match="not the same items"):
        paired_difference(before, {"0": 1.0}, seed=1)
