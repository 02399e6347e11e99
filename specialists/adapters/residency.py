"""Which adapters are in memory, who must stay, and who gives way. Counting only: no torch.

An adapter is known by its generation. One that is in use or pinned is never a victim; of the others the least recently
used give way first.
"""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    num_bytes: int
    num_users: int = 0
    is_pinned: bool = False

    @property
    def must_stay(self) -> bool:
        return self.is_pinned or self.num_users > 0


class Residency:
    """At most `max_count` adapters of together at most `max_bytes` in memory.

    Question methods (`victims_for`) change nothing; action methods expect that the question was asked.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._entries: dict[int, _Entry] = {}
        self._resident: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._num_bytes = 0  # of the resident ones

    def __contains__(self, generation: int) -> bool:
        return generation in self._entries

    @property
    def num_bytes(self) -> int:
        """Bytes of all that are in memory."""
        return self._num_bytes

    @property
    def num_pinned_bytes(self) -> int:
        """Bytes of those in memory that are pinned."""
        return sum(
            self._entries[generation].num_bytes
            for generation in self._resident
            if self._entries[generation].is_pinned
        )

    def num_users(self, generation: int) -> int:
        return self._entries[generation].num_users

    def is_pinned(self, generation: int) -> bool:
        return self._entries[generation].is_pinned

    def is_resident(self, generation: int) -> bool:
        return generation in self._resident

    def add(self, generation: int, num_bytes: int) -> None:
        """Know an adapter that is not in memory."""
        assert generation not in self._entries, f"generation {generation} is already known"
        self._entries[generation] = _Entry(num_bytes)

    def remove(self, generation: int) -> None:
        """Know an adapter no more; nobody may be using it."""
        assert self._entries[generation].num_users == 0, f"generation {generation} is in use"
        if generation in self._resident:
            self.evict(generation)
        del self._entries[generation]

    def use(self, generation: int) -> None:
        """Count one user in, whether the adapter is in memory or not."""
        self._entries[generation].num_users += 1
        self._touch(generation)

    def leave(self, generation: int) -> None:
        """Count one user out."""
        entry = self._entries[generation]
        assert entry.num_users > 0, f"generation {generation} was left more often than used"
        entry.num_users -= 1
        self._touch(generation)

    def pin(self, generation: int, pinned: bool) -> None:
        """Say whether an adapter, once in memory, must stay there."""
        self._entries[generation].is_pinned = pinned

    def could_ever_fit(self, generation: int) -> bool:
        """Whether there is room when all requests have ended: beside those that are pinned."""
        others = [
            self._entries[other]
            for other in self._resident
            if other != generation and self._entries[other].is_pinned
        ]
        num_bytes = sum(entry.num_bytes for entry in others) + self._entries[generation].num_bytes
        return len(others) < self._max_count and num_bytes <= self._max_bytes

    def victims_for(self, generation: int, leaving: int | None = None) -> list[int] | None:
        """Who has to go for `generation` to come into memory, least recently used first; None when it cannot.

        `leaving` goes first if nobody uses it, pinned or not: what `generation` replaces.
        """
        if generation in self._resident:
            return []
        count, num_bytes = len(self._resident) + 1, self._num_bytes + self._entries[generation].num_bytes
        victims: list[int] = []
        for other in self._candidates(leaving):
            if count <= self._max_count and num_bytes <= self._max_bytes:
                break
            victims.append(other)
            count, num_bytes = count - 1, num_bytes - self._entries[other].num_bytes
        return victims if count <= self._max_count and num_bytes <= self._max_bytes else None

    def admit(self, generation: int) -> list[int]:
        """Take an adapter into memory; returns who had to go for it."""
        victims = self.victims_for(generation)
        assert victims is not None, f"there is no room for generation {generation}"
        for victim in victims:
            self.evict(victim)
        if generation not in self._resident:
            self._resident[generation] = None
            self._num_bytes += self._entries[generation].num_bytes
        self._touch(generation)
        return victims

    def evict(self, generation: int) -> None:
        """Note that an adapter is out of memory."""
        del self._resident[generation]
        self._num_bytes -= self._entries[generation].num_bytes

    def check_integrity(self) -> None:
        """What is in memory keeps to the limits and adds up. Raises AssertionError otherwise."""
        assert set(self._resident) <= set(self._entries), "something unknown is in memory"
        total = sum(self._entries[generation].num_bytes for generation in self._resident)
        assert total == self._num_bytes, f"{total} bytes are in memory, {self._num_bytes} are counted"
        assert total <= self._max_bytes, f"{total} bytes are in memory, {self._max_bytes} are allowed"
        assert len(self._resident) <= self._max_count, "more adapters are in memory than allowed"

    def _candidates(self, leaving: int | None) -> list[int]:
        idle = [generation for generation in self._resident if not self._entries[generation].must_stay]
        if leaving is not None and leaving in self._resident and self._entries[leaving].num_users == 0:
            idle = [leaving, *(generation for generation in idle if generation != leaving)]
        return idle

    def _touch(self, generation: int) -> None:
        if generation in self._resident:
            self._resident.move_to_end(generation)
