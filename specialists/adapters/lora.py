"""What the model and the runner ask of LoRA, whoever computes it: `native_lora` on a CPU, `lora_linear` elsewhere."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from specialists.adapters.checkpoint import LoraWeights
from specialists.engine.linear import Linear
from specialists.engine.scheduler_output import SchedulerOutput

# The model's fused linears and the checkpoint's targets inside each, in the order of their outputs.
FUSED = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}


class AdapterWeights(Protocol):
    """An adapter in memory: as read from its files (`LoraWeights`), or as one kind of `LoraSlots` wants it."""

    @property
    def rank(self) -> int: ...

    @property
    def num_bytes(self) -> int: ...


class Adapter(Protocol):
    """One generation of an adapter with its weights, as the engine takes it; `LoadedAdapter` is one while resident."""

    @property
    def generation(self) -> int: ...

    @property
    def weights(self) -> AdapterWeights: ...


@dataclass(frozen=True, slots=True)
class AdapterInUse:
    """One generation of an adapter with its weights, for as long as a request needs them."""

    generation: int
    weights: AdapterWeights


class LoraBatch(Protocol):
    """The adapters of one step's rows."""

    def product(self, layer: int, group: str, x: Tensor, linear: Linear) -> Tensor:
        """linear(x) plus each row's own adapter applied to x [num_tokens, in_features], contiguous
        -> [num_tokens, out_features]
        """


class LoraSlots(Protocol):
    """The adapters in some numbered slots."""

    def prepare(self, weights: LoraWeights) -> AdapterWeights:
        """What `place` takes without further work. May run on any thread."""

    def place(self, slot: int, weights: AdapterWeights) -> None:
        """Put an adapter into a slot; whatever was there is gone."""

    def vacate(self, slot: int) -> None:
        """Keep nothing of the adapter in this slot; no row may name the slot until another is placed there."""

    def for_step(self, output: SchedulerOutput) -> LoraBatch | None:
        """The adapters of the planned rows; None when no row has one."""
