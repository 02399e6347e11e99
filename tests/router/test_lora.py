"""Merged deltas compute what the adapted encoder computed."""

from pathlib import Path

import pytest
import torch

from router import lora
from router.model import load_encoder


def _states(encoder: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        ids = torch.tensor([[2, 5, 6, 7, 8, 3]])
        states: torch.Tensor = encoder(input_ids=ids).last_hidden_state
        return states


def test_a_fresh_adaptation_changes_nothing(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    before = _states(encoder)
    lora.adapt(encoder, targets="", rank=2, scale=2.0, seed=0)
    torch.testing.assert_close(_states(encoder), before)


def test_merged_equals_adapted(tiny_encoder: Path):
    adapted = load_encoder(tiny_encoder)
    parameters = lora.adapt(adapted, targets="", rank=2, scale=2.0, seed=0)
    for parameter in parameters:
        # Halves survive the half-precision file exactly, so the comparison below is about merging alone.
        parameter.data = (
            torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)).half().float() * 0.5
        )
    adapted.eval()
    merged = load_encoder(tiny_encoder)
    plain = _states(merged)
    lora.merge(merged, lora.deltas(adapted))
    torch.testing.assert_close(_states(merged), _states(adapted), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(_states(merged), plain, atol=1e-2)


def test_only_the_deltas_are_trained(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    parameters = lora.adapt(encoder, targets="", rank=2, scale=2.0, seed=0)
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    assert len(trained) == len(parameters) == 2 * 2 * 6  # A and B, two layers, six linears each


def test_targets_choose_the_layers(tiny_encoder: Path):
    encoder = load_encoder(tiny_encoder)
    assert (
        len(lora.adapt(encoder, targets=r"layer\.1\.attention\.self\.query", rank=2, scale=2.0, seed=0)) == 2
    )
    with pytest.raises(ValueError, match="pooler"):
        lora.adapt(encoder, targets="pooler", rank=2, scale=2.0, seed=0)
