"""pass@k from n samples of a problem, c of them right: the unbiased estimate of Chen et al. (2021)."""

import math


def estimate_pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The chance that at least one of `k` samples drawn without replacement is right.

    Raises ValueError unless 0 <= num_correct <= num_samples and 1 <= k <= num_samples.
    """
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct must be between 0 and {num_samples}, got {num_correct}")
    if not 1 <= k <= num_samples:
        raise ValueError(f"k must be between 1 and {num_samples}, got {k}")
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)
