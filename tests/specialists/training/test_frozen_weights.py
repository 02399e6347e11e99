"""Quantised bases: what the formats lose, and that training on one is training on its dense form."""

from pathlib import Path

import pytest
import torch

from specialists.training.data import PromptGroup
from specialists.training.frozen_weights import freeze_weight
from specialists.training.lora import load_trainable
from specialists.training.method import pack_loss
from specialists.training.packing import build_pack
from specialists.training.sections import BaseQuantization, Lora

PACK = build_pack([PromptGroup((5, 9, 33, 21), ((41, 7, 300), (8,))), PromptGroup((6, 200), ((12, 13),))])
LORA = Lora(rank=4, targets=("q_proj", "down_proj"))  # the other linears are quantised all the same


@pytest.mark.parametrize(("quantization", "error"), [("none", 0.0), ("bnb-int8", 0.01), ("bnb-nf4", 0.12)])
def test_the_dense_form_is_near_to_the_original(quantization: BaseQuantization, error: float) -> None:
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(0))
    dense = freeze_weight(weight, quantization).dense()
    assert dense.shape == weight.shape and dense.dtype == weight.dtype
    relative = (dense - weight).norm() / weight.norm()
    assert relative <= error
    assert error == 0.0 or relative > error / 10


@pytest.mark.parametrize("quantization", ["bnb-int8", "bnb-nf4"])
def test_loss_and_gradient_are_those_of_the_dense_weights(
    tiny_qwen2: Path, quantization: BaseQuantization
) -> None:
    quantised = load_trainable(tiny_qwen2, LORA, 1, torch.float32, quantization)
    plain = load_trainable(tiny_qwen2, LORA, 1, torch.float32)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in quantised.parameters.items():
        parameter.data.normal_(0.0, 0.2, generator=generator)
        plain.parameters[name].data.copy_(parameter.data)
    for module in plain._peft_model.base_model.model.model.layers.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.weight.data.copy_(freeze_weight(module.weight, quantization).dense())
    one, other = pack_loss(quantised, PACK), pack_loss(plain, PACK)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    one.backward()
    other.backward()
    for name, parameter in quantised.parameters.items():
        torch.testing.assert_close(
            parameter.grad, plain.parameters[name].grad, rtol=1e-3, atol=1e-4, msg=name
        )


def test_the_dense_weights_are_not_kept(tiny_qwen2: Path) -> None:
    model = load_trainable(tiny_qwen2, LORA, 1, torch.float32, "bnb-nf4")
    layers = model._peft_model.base_model.model.model.layers
    linears = [
        one for one in layers.modules() if isinstance(one, torch.nn.Linear) and not one.weight.requires_grad
    ]
    assert linears and all(one.weight.numel() == 0 for one in linears)
