"""Who is admitted next: fair between adapters, in order of arrival within one. No torch here.

The adapter with the fewest running requests goes first, so a flood for one specialist takes what the others leave over and
cannot hold them up: the first waiting request of any other adapter is admitted as soon as a place gets free. An adapter
that finds no slot is passed over, but not for ever: after `patience` later arrivals have gone before it, none goes any more.
"""

import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Set

from specialists.engine.sequence import Sequence


class WaitingQueue:
    """Requests that do not run yet. Preempted ones come back before all others, oldest first."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._numbers = itertools.count()
        self._arrival: dict[Sequence, int] = {}
        self._by_adapter: dict[int, deque[Sequence]] = {}
        self._preempted: deque[Sequence] = deque()
        self._num_overtaken: Counter[Sequence] = Counter()

    def __len__(self) -> int:
        return len(self._arrival)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._preempted
        yield from sorted(itertools.chain(*self._by_adapter.values()), key=self._arrival.__getitem__)

    def append(self, sequence: Sequence) -> None:
        self._arrival[sequence] = next(self._numbers)
        self._by_adapter.setdefault(sequence.adapter_id, deque()).append(sequence)

    def push_back(self, sequence: Sequence) -> None:
        """Take a preempted sequence; of several the one preempted last is the oldest, and goes first."""
        self._arrival[sequence] = next(self._numbers)
        self._preempted.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it stands."""
        del self._arrival[sequence]
        self._num_overtaken.pop(sequence, None)
        if sequence in self._preempted:
            self._preempted.remove(sequence)
            return
        queue = self._by_adapter[sequence.adapter_id]
        queue.remove(sequence)
        if not queue:
            del self._by_adapter[sequence.adapter_id]

    def next_one(self, num_running: Mapping[int, int], passed_over: Set[int]) -> Sequence | None:
        """Who should be admitted next, leaving out the adapters in `passed_over`; None when nobody can be.

        `num_running` counts running sequences by adapter.
        """
        for sequence in self._preempted:
            if sequence.adapter_id not in passed_over:
                return sequence
        limit = min(
            (
                self._arrival[sequence]
                for sequence in self._num_overtaken
                if self._num_overtaken[sequence] >= self._patience and sequence.adapter_id in passed_over
            ),
            default=float("inf"),
        )
        heads = (queue[0] for adapter, queue in self._by_adapter.items() if adapter not in passed_over)
        return min(
            (sequence for sequence in heads if self._arrival[sequence] < limit),
            key=lambda sequence: (num_running.get(sequence.adapter_id, 0), self._arrival[sequence]),
            default=None,
        )

    def admit(self, sequence: Sequence, passed_over: Set[int]) -> None:
        """Take out a sequence that runs now, and note whom of `passed_over` it overtook."""
        arrival = self._arrival[sequence]
        self.remove(sequence)
        for adapter in passed_over:
            queue = self._by_adapter.get(adapter)
            if queue and self._arrival[queue[0]] < arrival:
                self._num_overtaken[queue[0]] += 1
