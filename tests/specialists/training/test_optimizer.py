import copy

import pytest
import torch
from torch import nn

from specialists.training.optimizer import MasterAdamW, learning_rate
from specialists.training.sections import Optimizer

SETTINGS = Optimizer(lr=0.1, warmup_share=0.1, final_lr_share=0.2)


def test_the_rate_rises_then_falls_to_its_share() -> None:
    rates = [learning_rate(SETTINGS, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, abs=0.001)
    assert learning_rate(SETTINGS, 0, 1) == pytest.approx(0.1)


def make_parameter(value: float = 1.0) -> dict[str, nn.Parameter]:
    return {"w": nn.Parameter(torch.full((4,), value, dtype=torch.bfloat16))}


def test_steps_too_small_for_bf16_still_add_up() -> None:
    parameters = make_parameter()
    optimizer = MasterAdamW(parameters, SETTINGS)
    for _ in range(100):
        parameters["w"].grad = torch.ones(4, dtype=torch.bfloat16)
        optimizer.gather()
        optimizer.step(lr=1e-4, num_targets=1)  # bf16 cannot hold 1 - 1e-4
    assert parameters["w"][0].item() == pytest.approx(0.99, abs=0.004)


def test_gradients_of_several_packs_are_one_average() -> None:
    one, other = make_parameter(), make_parameter()
    together, apart = MasterAdamW(one, SETTINGS), MasterAdamW(other, SETTINGS)
    one["w"].grad = torch.full((4,), 6.0, dtype=torch.bfloat16)
    together.gather()
    for value in (1.0, 2.0, 3.0):
        other["w"].grad = torch.full((4,), value, dtype=torch.bfloat16)
        apart.gather()
    assert other["w"].grad is None
    assert together.step(0.1, 3) == apart.step(0.1, 3) == pytest.approx(4.0)  # 2 in each of four places
    assert torch.equal(one["w"], other["w"])


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    parameters = make_parameter()
    optimizer = MasterAdamW(parameters, SETTINGS)
    parameters["w"].grad = torch.tensor([1.0, float("nan"), 1.0, 1.0], dtype=torch.bfloat16)
    optimizer.gather()
    with pytest.raises(FloatingPointError, match="nan"):
        optimizer.step(0.1, 1)
    assert torch.equal(parameters["w"], torch.ones(4, dtype=torch.bfloat16))


def test_its_state_continues_exactly() -> None:
    def train(parameters: dict[str, nn.Parameter], optimizer: MasterAdamW, seeds: range) -> None:
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            parameters["w"].grad = torch.randn(4, generator=generator).bfloat16()
            optimizer.gather()
            optimizer.step(0.01, 1)

    whole = make_parameter()
    optimizer = MasterAdamW(whole, SETTINGS)
    train(whole, optimizer, range(4))
    continued = make_parameter(5.0)
    other = MasterAdamW(continued, SETTINGS)
    other.load_state(copy.deepcopy(optimizer.state()))
    train(continued, other, range(4, 8))
    train(whole, optimizer, range(4, 8))
    assert torch.equal(whole["w"], continued["w"])
