from itertools import combinations

import pytest

from specialists.evaluation.pass_at_k import estimate_pass_at_k


@pytest.mark.parametrize(("n", "c"), [(5, 0), (5, 1), (5, 3), (6, 6)])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_it_is_the_share_of_draws_with_a_right_one(n: int, c: int, k: int) -> None:
    draws = list(combinations(range(n), k))
    expected = sum(any(one < c for one in draw) for draw in draws) / len(draws)
    assert estimate_pass_at_k(n, c, k) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="must be between"):
        estimate_pass_at_k(n, c, k)
