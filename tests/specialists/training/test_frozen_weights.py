"""Quantised bases: what the formats lose, and that training on one is training on its dense form."""

from pathlib import Path

import pytest
import torch

from specialists.training.data import PromptGroup
from specialists.training.frozen_weights import DenseWeight, FrozenWeight, freeze_weight
from specialists.training.lora import load_trainable
from specialists.training.method import pack_loss
from specialists.training.packing import build_pack
from specialists.training.sections import BaseQuantization, Lora

PACK = build_pack([PromptGroup((5, 9, 33, 21), ((41, 7, 300), (8,))), PromptGroup((6, 200), ((12, 13),))])
LORA = Lora(rank=4, targets=("q_proj", "down_proj"))  # the other linears are quantised all the same


@pytest.mark.parametrize(("quantization", "error"), [("none", 0.0), ("bnb-int8", 0.01), ("bnb-nf4", 0.12)])
def test_the_dense_form_is_near_to_the_original(quantization: BaseQuantization, error: float) -> None:
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(0))
    dense = dense_form(freeze_weight(weight, quantization))
    assert dense.shape == weight.shape and dense.dtype == weight.dtype
    relative = (dense - weight).norm() / weight.norm()
    assert relative <= error
    assert error == 0.0 or relative > error / 10


def dense_form(weight: FrozenWeight) -> torch.Tensor:
    assert isinstance(weight, DenseWeight)
    return weight.dense()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_8_bit_products_are_near_both_ways(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 128, generator=generator).to(dtype)
    bias = torch.randn(96, generator=generator).to(dtype)
    frozen = freeze_weight(weight, "int8")
    # Rows of very different sizes, as gradients have, each with a scale of its own.
    x = (torch.randn(37, 128, generator=generator) * torch.logspace(-8, 3, 37)[:, None]).to(dtype)
    grad = (torch.randn(37, 96, generator=generator) * torch.logspace(-8, 3, 37)[:, None]).to(dtype)
    for found, expected in (
        (frozen.product(x, None), x.float() @ weight.float().t()),
        (frozen.backward(grad), grad.float() @ weight.float()),
    ):
        assert found.dtype == dtype
        errors = (found.float() - expected).norm(dim=1) / expected.norm(dim=1)
        assert float(errors.max()) < 0.03
    shifted = frozen.product(x, bias).float() - frozen.product(x, None).float()
    torch.testing.assert_close(shifted[:20], bias.float().expand(20, -1), rtol=0.05, atol=0.01)


def test_a_gradient_of_zeros_stays_one() -> None:
    frozen = freeze_weight(torch.randn(32, 64, dtype=torch.bfloat16), "int8")
    assert not frozen.backward(torch.zeros(3, 32, dtype=torch.bfloat16)).any()


def test_training_in_8_bits_goes_the_way_of_training_without(tiny_qwen2: Path) -> None:
    gradients = []
    for quantization in ("none", "int8"):
        model = load_trainable(tiny_qwen2, LORA, 1, torch.float32, quantization)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(7)
        for parameter in model.parameters.values():
            parameter.data.normal_(0.0, 0.02, generator=generator)
        pack_loss(model, PACK).backward()
        gradients.append(torch.cat([_grad(one).flatten() for one in model.parameters.values()]))
    assert float(torch.cosine_similarity(gradients[0], gradients[1], dim=0)) > 0.97


def _grad(parameter: torch.nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


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
            module.weight.data.copy_(dense_form(freeze_weight(module.weight, quantization)))
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
