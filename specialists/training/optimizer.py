"""AdamW over float32 copies of the bf16 adapter, with warm-up and cosine decay.

A bf16 weight cannot take a step smaller than about 0.4% of itself, which is most of LoRA's steps late in
training: the optimizer keeps float32 copies, adds the gradients of several packs up in float32, and writes
bf16 back.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from specialists.training.sections import Optimizer


def learning_rate(settings: Optimizer, step: int, num_steps: int) -> float:
    """The rate of step `step` (from 0) of `num_steps`: linear up, then a half cosine down."""
    num_warmup = max(1, round(settings.warmup_share * num_steps))
    if step < num_warmup:
        return settings.lr * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    floor = settings.final_lr_share
    return settings.lr * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))


class MasterAdamW:
    """Owns the float32 copies and their moments; `parameters` follow them after each step."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: Optimizer) -> None:
        self._parameters = dict(parameters)
        self._settings = settings
        self._masters = {name: one.detach().float().clone() for name, one in parameters.items()}
        for master in self._masters.values():
            master.grad = torch.zeros_like(master)
        self._adam = _adam(list(self._masters.values()), settings)

    def gather(self) -> None:
        """Take over the gradients of one backward pass, in float32, and clear them."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                _grad_of(self._masters[name]).add_(parameter.grad.float())
                parameter.grad = None

    def step(self, lr: float, num_targets: int) -> float:
        """Average over the step's targets, clip, update; the norm before clipping.

        Raises FloatingPointError when the gradient is not finite; nothing is changed then.
        """
        masters = list(self._masters.values())
        for master in masters:
            _grad_of(master).div_(max(num_targets, 1))
        norm = float(nn.utils.clip_grad_norm_(masters, self._settings.max_grad_norm))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {norm}")
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        self._adam.zero_grad(set_to_none=False)
        self._write_back()
        return norm

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on."""
        return {"masters": dict(self._masters), "adam": self._adam.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, master in self._masters.items():
            master.copy_(state["masters"][name])
        self._adam.load_state_dict(state["adam"])
        self._write_back()

    def weights(self) -> dict[str, Tensor]:
        """A copy of the float32 weights."""
        return {name: master.detach().clone() for name, master in self._masters.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        for name, master in self._masters.items():
            master.copy_(weights[name])
        self._write_back()

    def _write_back(self) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._masters[name])


def _adam(masters: list[Tensor], settings: Optimizer) -> torch.optim.Optimizer:
    """The update itself; with `eight_bit` its moments take a byte each (matrices of 4,096 weights and more)."""
    options: dict[str, Any] = {
        "lr": settings.lr,
        "betas": settings.betas,
        "weight_decay": settings.weight_decay,
    }
    if not settings.eight_bit:
        return torch.optim.AdamW(masters, **options)
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(masters, **options)
    return optimizer


def _grad_of(master: Tensor) -> Tensor:
    assert master.grad is not None, "masters keep their gradient buffers"
    return master.grad
