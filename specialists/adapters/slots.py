"""Which adapter sits in which slot of the batch, and who may be displaced. Counting only: no torch.

An adapter stays in its slot after its last request, so that the next one finds it there; the least recently used
idle one gives way.
"""

from collections import Counter, OrderedDict


class SlotTable:
    """`num_slots` places for adapters in a batch. An adapter with running requests is never displaced."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._slot_by_adapter: dict[int, int] = {}
        self._num_users: Counter[int] = Counter()
        self._idle: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._empty = list(range(num_slots - 1, -1, -1))

    def can_acquire(self, adapter_id: int) -> bool:
        return adapter_id in self._slot_by_adapter or bool(self._empty) or bool(self._idle)

    def acquire(self, adapter_id: int) -> tuple[int, bool]:
        """Count one user in; returns the slot, and whether the adapter has yet to be put there."""
        is_new = adapter_id not in self._slot_by_adapter
        if is_new:
            self._slot_by_adapter[adapter_id] = self._vacate()
        self._idle.pop(adapter_id, None)
        self._num_users[adapter_id] += 1
        return self._slot_by_adapter[adapter_id], is_new

    def release(self, adapter_id: int) -> None:
        """Count one user out; the adapter stays in its slot until another needs it."""
        assert self._num_users[adapter_id] > 0, f"adapter {adapter_id} was released more often than acquired"
        self._num_users[adapter_id] -= 1
        if self._num_users[adapter_id] == 0:
            del self._num_users[adapter_id]
            self._idle[adapter_id] = None

    def adapters(self) -> list[int]:
        """All that sit in a slot. May be asked on any thread."""
        return list(self._slot_by_adapter)

    def remove(self, adapter_id: int) -> int | None:
        """Empty the slot of an adapter that nobody uses; returns the slot, None when it has none."""
        assert adapter_id not in self._num_users, f"adapter {adapter_id} is in use"
        slot = self._slot_by_adapter.pop(adapter_id, None)
        if slot is not None:
            del self._idle[adapter_id]
            self._empty.append(slot)
        return slot

    def slot_of(self, adapter_id: int) -> int:
        return self._slot_by_adapter[adapter_id]

    def check_integrity(self, users: list[int]) -> None:
        """`users` are the adapter ids of the running sequences (0 for the base). Raises AssertionError."""
        assert Counter(user for user in users if user) == self._num_users, "slot users do not add up"
        taken = sorted([*self._slot_by_adapter.values(), *self._empty])
        assert taken == list(range(self.num_slots)), "an adapter slot is lost or taken twice"

    def _vacate(self) -> int:
        if self._empty:
            return self._empty.pop()
        victim, _ = self._idle.popitem(last=False)
        return self._slot_by_adapter.pop(victim)
