"""The packed encoder says what the plain one says, to bf16's precision."""

from pathlib import Path

import pytest
import torch

from router import packed
from router.model import load_encoder


@pytest.mark.skipif(not packed.has_bfloat16(), reason="this processor does not multiply bf16")
def test_packed_equals_plain(tiny_encoder: Path):
    ids = torch.tensor([[2, 5, 6, 7, 8, 3]])
    plain, served = load_encoder(tiny_encoder), load_encoder(tiny_encoder)
    packed.pack(served)
    with torch.inference_mode():
        expected = plain(input_ids=ids).last_hidden_state.mean(dim=1)
        actual = served(input_ids=ids).last_hidden_state.float().mean(dim=1)
    assert torch.cosine_similarity(expected, actual).item() > 0.999
