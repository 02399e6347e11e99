"""Sampling follows the distribution it is asked for, and only the row's own."""

import pytest
import torch

from specialists.engine.sampler import greedy, sample_row
from specialists.engine.sampling_params import SamplingParams

PROBABILITIES = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.05])
LOGITS = PROBABILITIES.log()
DRAWS = [(i + 0.5) / 1000 for i in range(1000)]


def frequencies(params: SamplingParams, logits: torch.Tensor = LOGITS) -> list[float]:
    drawn = [sample_row(logits, params, draw) for draw in DRAWS]
    return [drawn.count(token) / len(DRAWS) for token in range(len(logits))]


def test_follows_the_softmax():
    assert frequencies(SamplingParams()) == pytest.approx(PROBABILITIES.tolist(), abs=2e-3)


def test_temperature_sharpens():
    expected = torch.softmax(LOGITS / 0.5, dim=-1).tolist()
    assert frequencies(SamplingParams(temperature=0.5)) == pytest.approx(expected, abs=2e-3)


def test_top_k_keeps_the_k_most_likely():
    assert frequencies(SamplingParams(top_k=2)) == pytest.approx([0, 0.625, 0, 0.375, 0], abs=2e-3)


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    assert frequencies(SamplingParams(top_p=0.7)) == pytest.approx([0, 0.625, 0, 0.375, 0], abs=2e-3)
    assert frequencies(SamplingParams(top_p=0.01)) == [0, 1, 0, 0, 0]


def test_top_p_over_a_flat_vocabulary_needs_the_full_sort():
    logits = torch.zeros(2000)
    drawn = {sample_row(logits, SamplingParams(top_p=0.5), draw) for draw in DRAWS}
    assert len(drawn) == pytest.approx(1000, abs=2)


def test_top_k_and_top_p_together():
    assert frequencies(SamplingParams(top_k=3, top_p=0.5)) == [0, 1, 0, 0, 0]


def test_draws_at_the_ends_stay_in_the_vocabulary():
    for draw in (0.0, 1.0 - 2**-53):
        assert sample_row(LOGITS, SamplingParams(), draw) in range(5)
        assert sample_row(LOGITS, SamplingParams(top_p=0.9), draw) in range(5)


def test_greedy_takes_the_lowest_id_among_equals():
    rows = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], dtype=torch.bfloat16)
    assert greedy(rows) == [1, 0]
