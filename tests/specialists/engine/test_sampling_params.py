"""Values out of range are refused by name."""

import pytest

from specialists.engine.config import EngineConfig
from specialists.engine.sampling_params import SamplingParams


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("stop", ("a", "")),
    ],
)
def test_sampling_value_out_of_range(field: str, value: object):
    with pytest.raises(ValueError, match=field):
        SamplingParams(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"block_size": 0}, "block_size"),
        ({"max_num_batched_tokens": 3, "max_num_seqs": 4}, "max_num_batched_tokens"),
        ({"num_blocks": 2, "block_size": 16, "max_model_len": 33}, "max_model_len"),
        ({"max_adapters": 0}, "max_adapters"),
        ({"max_prefill_tokens_while_decoding": 0}, "max_prefill_tokens_while_decoding"),
    ],
)
def test_engine_size_that_cannot_work(changes: dict[str, int], field: str):
    with pytest.raises(ValueError, match=field):
        EngineConfig(**changes)  # type: ignore[arg-type]
