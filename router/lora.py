"""The encoder's adaptation: low-rank deltas on its linear layers, trained beside them and merged at load.

Merged, the encoder costs exactly what the plain one costs. A delta bears the name of the module it changes.
"""

import re
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from router.errors import DelegatorError


class LoraLinear(nn.Module):
    """A frozen linear layer plus `scale * B A x`. A is [rank, in], B is [out, rank] and starts at zero."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        bound = (3 / base.in_features) ** 0.5
        initial = torch.rand(rank, base.in_features, generator=generator) * 2 * bound - bound
        self.lora_a = nn.Parameter(initial)
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        low = functional.linear(x, self.lora_a)
        adapted: torch.Tensor = self.base(x) + functional.linear(low, self.lora_b) * self.scale
        return adapted


def adapt(encoder: nn.Module, targets: str, rank: int, scale: float, seed: int) -> list[nn.Parameter]:
    """Freezes the encoder and lays a LoraLinear over each linear layer whose name `targets` (a regex) finds.

    Returns what is to be trained. Raises ValueError when no layer is found.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder.requires_grad_(False)
    linears = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    linears = [(name, module) for name, module in linears if re.search(targets, name)]
    if not linears:
        raise ValueError(f"no linear layer of the encoder is named like {targets!r}")
    parameters: list[nn.Parameter] = []
    for name, module in linears:
        layer = LoraLinear(module, rank, scale, generator)
        parent, _, child = name.rpartition(".")
        setattr(encoder.get_submodule(parent), child, layer)
        parameters += [layer.lora_a, layer.lora_b]
    return parameters


def deltas(encoder: nn.Module) -> dict[str, torch.Tensor]:
    """The trained deltas of an adapted encoder as `<module>.lora_a` and `<module>.lora_b`, scale folded
    into B.
    """
    found: dict[str, torch.Tensor] = {}
    for name, module in encoder.named_modules():
        if isinstance(module, LoraLinear):
            found[f"{name}.lora_a"] = module.lora_a.detach().to(torch.float16).contiguous()
            found[f"{name}.lora_b"] = (module.lora_b.detach() * module.scale).to(torch.float16).contiguous()
    return found


def merge(encoder: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Adds `B A` to the weight of every module the deltas name.

    Raises DelegatorError when a delta names no linear layer of the encoder or does not fit it.
    """
    modules = dict(encoder.named_modules())
    for name in sorted(key.removesuffix(".lora_a") for key in tensors if key.endswith(".lora_a")):
        module = modules.get(name)
        lora_a, lora_b = tensors[f"{name}.lora_a"].float(), tensors.get(f"{name}.lora_b")
        if not isinstance(module, nn.Linear) or lora_b is None:
            raise DelegatorError(f"the delta {name!r} has no place in this encoder")
        delta_shape = (lora_b.shape[0], lora_a.shape[1])
        if delta_shape != tuple(module.weight.shape) or lora_b.shape[1] != lora_a.shape[0]:
            raise DelegatorError(
                f"the delta {name!r} is {delta_shape}; the encoder's layer is {tuple(module.weight.shape)}"
            )
        with torch.no_grad():
            module.weight += (lora_b.float() @ lora_a).to(module.weight.dtype)


def average(
    members: Sequence[dict[str, torch.Tensor]], weights: Sequence[float], rank: int
) -> dict[str, torch.Tensor]:
    """The weighted mean of several trained parts: deltas and head as one that is merged just the same.

    A member without a delta for a module counts as zero there. Each mean delta is cut back to `rank` by its singular
    values, which loses nothing when one member has all the weight.
    """
    shares = [weight / sum(weights) for weight in weights]
    averaged: dict[str, torch.Tensor] = {}
    for name in sorted(
        {key.removesuffix(".lora_a") for part in members for key in part if key.endswith(".lora_a")}
    ):
        parts = [
            (part, share) for part, share in zip(members, shares, strict=True) if f"{name}.lora_a" in part
        ]
        low = torch.cat([part[f"{name}.lora_a"].float() for part, _ in parts])  # [ranks, in]
        high = torch.cat(
            [part[f"{name}.lora_b"].float() * share for part, share in parts], dim=1
        )  # [out, ranks]
        # The singular values of `high @ low` from its thin factors: the product itself is never needed.
        q_high, r_high = torch.linalg.qr(high)
        q_low, r_low = torch.linalg.qr(low.T)
        u, values, v = torch.linalg.svd(r_high @ r_low.T, full_matrices=False)
        kept = values[:rank].sqrt()
        averaged[f"{name}.lora_a"] = (kept[:, None] * (v[:rank] @ q_low.T)).to(torch.float16).contiguous()
        averaged[f"{name}.lora_b"] = (q_high @ u[:, :rank] * kept).to(torch.float16).contiguous()
    for name in ("head.weight", "head.bias"):
        heads = [part[name] * share for part, share in zip(members, shares, strict=True)]
        averaged[name] = torch.stack(heads).sum(dim=0).contiguous()
    return averaged
