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


def _part(encoder: Path, seed: int, targets: str) -> dict[str, torch.Tensor]:
    adapted = load_encoder(encoder)
    lora.adapt(adapted, targets=targets, rank=2, scale=2.0, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in adapted.modules():
        if isinstance(module, lora.LoraLinear):
            module.lora_b.data = torch.randn(module.lora_b.shape, generator=generator) * 0.1
    return {
        **lora.deltas(adapted),
        "head.weight": torch.full((3, 4), float(seed)),
        "head.bias": torch.zeros(3),
    }


def test_an_average_is_the_mean_of_the_merged_weights(tiny_encoder: Path):
    first, second = _part(tiny_encoder, 1, ""), _part(tiny_encoder, 5, r"layer\.1")
    averaged = lora.average([first, second], [3.0, 1.0], rank=4)
    plain = dict(load_encoder(tiny_encoder).named_parameters())
    merged = []
    for part in (first, second, averaged):
        encoder = load_encoder(tiny_encoder)
        lora.merge(encoder, part)
        merged.append(dict(encoder.named_parameters()))
    for name in plain:
        expected = 0.75 * merged[0][name] + 0.25 * merged[1][name]
        torch.testing.assert_close(merged[2][name], expected, rtol=1e-2, atol=1e-3)
    assert averaged["head.weight"].unique().tolist() == [2.0]


def test_an_average_of_one_is_the_same(tiny_encoder: Path):
    part = _part(tiny_encoder, 1, "")
    averaged = lora.average([part, _part(tiny_encoder, 2, "")], [1.0, 0.0], rank=2)
    one, other = load_encoder(tiny_encoder), load_encoder(tiny_encoder)
    lora.merge(one, part)
    lora.merge(other, averaged)
    torch.testing.assert_close(_states(one), _states(other), rtol=1e-2, atol=2e-3)


def test_an_average_is_cut_to_the_rank(tiny_encoder: Path):
    averaged = lora.average([_part(tiny_encoder, 1, ""), _part(tiny_encoder, 2, "")], [1.0, 1.0], rank=3)
    assert {tensor.shape[0] for name, tensor in averaged.items() if name.endswith("lora_a")} == {3}
