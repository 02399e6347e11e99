"""The served encoders say what the plain one says, to their precision, and padding changes nothing."""

from pathlib import Path

import pytest
import torch

from router.model import collate, load_encoder, pooled
from router.packed import PackedEncoder, has_bfloat16
from router.quantized import QuantizedEncoder, input_ranges, is_supported
from router.tokenizing import Encoded

BATCH = [
    Encoded((2, 5, 6, 7, 8, 3), (0,) * 6),
    Encoded((2, 9, 30, 41, 3), (0,) * 5),
    Encoded((2, 5, 3, 12, 3), (0,) * 3 + (1,) * 2),
]


def _plain(folder: Path) -> torch.Tensor:
    encoder = load_encoder(folder)
    rows = []
    with torch.inference_mode():
        for encoded in BATCH:
            ids, segments, _ = collate([encoded])
            rows.append(pooled(encoder(input_ids=ids, token_type_ids=segments).last_hidden_state, None))
    return torch.cat(rows)


def _embedding(vectors: torch.Tensor) -> torch.Tensor:
    """Of what all depths give, the last layer's part, which comes first."""
    assert vectors.shape == (len(BATCH), 4 * 16)
    return vectors[:, :16]


@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not multiply bf16")
def test_packed_equals_plain(tiny_encoder: Path):
    served = PackedEncoder(load_encoder(tiny_encoder)).embed(*collate(BATCH))
    assert torch.cosine_similarity(_plain(tiny_encoder), _embedding(served)).min() > 0.999


@pytest.mark.skipif(not is_supported(), reason="this processor does not multiply 8-bit integers")
def test_quantized_is_near_plain_whoever_shares_the_batch(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    ranges = input_ranges(encoder, [collate([encoded]) for encoded in BATCH])
    assert all(seen.shape[0] == 2 and (seen[0] >= seen[1]).all() for seen in ranges.values())
    quantized = QuantizedEncoder(encoder, ranges)
    assert quantized.hidden_size == 16
    together = quantized.embed(*collate(BATCH))
    alone = torch.cat([quantized.embed(*collate([encoded])) for encoded in BATCH])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
    assert torch.cosine_similarity(_plain(tiny_encoder), _embedding(together)).min() > 0.99
    torch.testing.assert_close(together.view(3, 4, 16).norm(dim=-1), torch.ones(3, 4))
