"""What the training loop asks of a method: batches whose parts have a loss, and a number that says how good it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from specialists.training.lora import TrainableModel
from specialists.training.losses import RowTerm, chunked_cross_entropy, chunked_row_loss
from specialists.training.packing import Pack


@dataclass(frozen=True, slots=True)
class Part:
    """What one forward and backward pass computes. `loss` sums over the targets; the loop divides."""

    num_tokens: int
    num_unshared_tokens: int
    num_targets: int
    loss: Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """One optimizer step. `facts` go into its line of metrics; the losses may add to them as they run."""

    parts: Sequence[Part]
    facts: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """One way to learn. A batch may depend on its step and the current weights, on nothing else."""

    @property
    def num_steps(self) -> int: ...
    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Everything that is trained, by a name that stays the same in a continued run."""
        ...

    def batch(self, step: int) -> Batch:
        """Step `step`, from 0."""
        ...

    def validate(self) -> float | None:
        """How far the current weights are from good, less is better; None when nothing was kept out to look at."""
        ...


def pack_part(pack: Pack, loss: Callable[[], Tensor]) -> Part:
    return Part(len(pack.token_ids), pack.num_unshared_tokens, len(pack.targets), loss)


def pack_loss(model: TrainableModel, pack: Pack, terms: Sequence[RowTerm] | None = None) -> Tensor:
    """The summed loss of a pack's answers, a float32 scalar: their cross-entropy unless other terms are given."""
    hidden = model.predicting_states(pack)
    if terms is None:
        return chunked_cross_entropy(hidden, model.head, torch.tensor(pack.targets))
    return chunked_row_loss(hidden, model.head, terms)


def validation_loss(model: TrainableModel, packs: Sequence[Pack]) -> float | None:
    """The mean cross-entropy per answer token; None without packs."""
    if not packs:
        return None
    with torch.inference_mode():
        total = sum(float(pack_loss(model, pack)) for pack in packs)
    return total / sum(len(pack.targets) for pack in packs)
