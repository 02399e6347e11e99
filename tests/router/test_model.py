"""Embeddings are unit vectors and padding does not change them."""

from pathlib import Path

import pytest
import torch

from router.errors import DelegatorError
from router.model import IntentModel, collate, load_encoder
from router.tokenizing import Encoded


@pytest.fixture(scope="module")
def model(tiny_encoder: Path) -> IntentModel:
    torch.manual_seed(0)
    return IntentModel(load_encoder(tiny_encoder), 3).eval()


SHORT, LONG = Encoded((2, 5, 3), (0,) * 3), Encoded((2, 5, 6, 7, 3, 8, 3), (0,) * 5 + (1,) * 2)


def test_collate_pads_to_a_multiple():
    ids, segments, mask = collate([SHORT, LONG], multiple=4)
    assert ids.shape == segments.shape == (2, 8)
    assert mask is not None and mask.sum(dim=1).tolist() == [3, 7]
    assert collate([SHORT])[2] is None


def test_padding_changes_nothing(model: IntentModel):
    with torch.inference_mode():
        together = model(*collate([LONG, SHORT]))
        alone = torch.cat([model(*collate([LONG])), model(*collate([SHORT]))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_embeddings_are_unit_vectors(model: IntentModel):
    with torch.inference_mode():
        norms = model.embed(*collate([SHORT, LONG])).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(2))


def test_damaged_encoder_weights_are_named(tmp_path: Path, tiny_encoder: Path):
    (tmp_path / "config.json").write_text((tiny_encoder / "config.json").read_text())
    with pytest.raises(DelegatorError, match=r"no model\.safetensors"):
        load_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DelegatorError, match="cannot load the encoder"):
        load_encoder(tmp_path)
