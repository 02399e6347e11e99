"""The plan of one step: who runs, how many tokens each, and which adapter goes into which slot."""

from dataclasses import dataclass

from specialists.engine.sequence import Sequence

BASE_SLOT = -1  # the slot of a row without an adapter


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """`num_tokens` tokens of one sequence, from its `num_computed` on, under the adapter in `slot`.

    A decode's may be followed by a `draft`: tokens that the step would yield one by one if they are guessed right.
    """

    sequence: Sequence
    num_tokens: int
    slot: int
    draft: tuple[int, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows that the model computes."""
        return self.num_tokens + len(self.draft)

    @property
    def completes(self) -> bool:
        """After this step all tokens are cached, so the step yields a new token."""
        return self.sequence.num_computed + self.num_tokens == len(self.sequence)


@dataclass(frozen=True, slots=True)
class AdapterPlacement:
    """Put the adapter of this generation into this slot before the step runs."""

    adapter_id: int
    slot: int


@dataclass(frozen=True, slots=True)
class SchedulerOutput:
    """One step. Decodes come before prefill chunks; both mix adapters freely."""

    decodes: tuple[ScheduledSequence, ...]
    prefills: tuple[ScheduledSequence, ...]
    placements: tuple[AdapterPlacement, ...] = ()

    @property
    def scheduled(self) -> tuple[ScheduledSequence, ...]:
        return self.decodes + self.prefills

    @property
    def num_rows(self) -> int:
        return sum(item.num_rows for item in self.scheduled)

    @property
    def is_empty(self) -> bool:
        return not self.decodes and not self.prefills
