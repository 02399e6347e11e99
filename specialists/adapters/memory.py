"""The adapters in memory: brought in, evicted and brought back within the limits, and the engine told of it.

The registry's lock is kept here, as waiting for room means waiting for what happens in the registry. Methods expect it held
unless they say otherwise.
"""

import threading
import time
from collections.abc import Callable, Collection
from typing import Protocol

from specialists.adapters.errors import AdapterError
from specialists.adapters.limits import AdapterLimits
from specialists.adapters.loaded import LoadedAdapter
from specialists.adapters.lora import AdapterWeights
from specialists.adapters.residency import Residency


class AdapterHolder(Protocol):
    """The engine, as seen from here: `AsyncEngine` is one. Its methods return at once."""

    def active_adapters(self) -> Collection[int]:
        """The generations in slots."""

    def vacate(self, generation: int) -> None:
        """Take an adapter that no request uses out of its slot."""

    def forget(self, generation: int) -> None:
        """The same, and forget the prefixes it computed: no request will name this generation again."""


class ResidentAdapters:
    """Which generations are in memory. `read_again` brings an evicted one's weights back from the disk.

    `changed` is the lock; it is notified when an adapter gets idle or there is room.
    """

    def __init__(self, limits: AdapterLimits, read_again: Callable[[LoadedAdapter], AdapterWeights]) -> None:
        self.changed = threading.Condition()
        self.holder: AdapterHolder | None = None
        self._limits = limits
        self._read_again = read_again
        self._adapters: dict[int, LoadedAdapter] = {}
        self._residency = Residency(limits.max_resident, limits.max_resident_bytes)
        self._returning: set[int] = set()  # being read by some thread; there is room for them already

    @property
    def num_bytes(self) -> int:
        return self._residency.num_bytes

    def active(self) -> Collection[int]:
        """The generations in the engine's slots. Needs no lock."""
        return () if self.holder is None else self.holder.active_adapters()

    def num_users(self, adapter: LoadedAdapter) -> int:
        known = adapter.generation in self._adapters
        return self._residency.num_users(adapter.generation) if known else 0

    def is_pinned(self, adapter: LoadedAdapter) -> bool:
        return self._residency.is_pinned(adapter.generation)

    def pin(self, adapter: LoadedAdapter, pinned: bool) -> None:
        self._residency.pin(adapter.generation, pinned)
        self.changed.notify_all()

    def use(self, adapter: LoadedAdapter) -> None:
        self._residency.use(adapter.generation)

    def leave(self, adapter: LoadedAdapter) -> int:
        """Count one user out; returns how many are left."""
        self._residency.leave(adapter.generation)
        num_users = self._residency.num_users(adapter.generation)
        if num_users == 0:
            self.changed.notify_all()
        return num_users

    def add(self, adapter: LoadedAdapter, replaced: LoadedAdapter | None, pinned: bool) -> None:
        """Know a new generation. One that is pinned needs room, for which `replaced` may go: raises AdapterError."""
        self._residency.add(adapter.generation, adapter.num_bytes)
        leaving = None if replaced is None else replaced.generation
        if pinned and self._residency.victims_for(adapter.generation, leaving) is None:
            self._residency.remove(adapter.generation)
            raise self._no_room(adapter)
        self._adapters[adapter.generation] = adapter

    def settle(self, adapter: LoadedAdapter) -> None:
        """Keep a new generation in memory if there is room; otherwise its first request brings it back."""
        if self._residency.victims_for(adapter.generation) is not None:
            self._admit(adapter)
        else:
            self._evict(adapter)

    def remove(self, adapter: LoadedAdapter) -> None:
        """Know a generation that nobody uses no more, and free all it holds."""
        self._residency.remove(adapter.generation)
        del self._adapters[adapter.generation]
        self.discard(adapter)
        self.changed.notify_all()

    def discard(self, adapter: LoadedAdapter) -> None:
        """Free all that a generation holds which is not known, or no longer. Needs no lock."""
        adapter.memory.weights = None
        if self.holder is not None:
            self.holder.forget(adapter.generation)

    def bring_back(self, adapter: LoadedAdapter) -> None:
        """Blocks until an adapter that is in use is in memory; takes the lock itself. Of several callers one reads.

        Raises AdapterError when there is no room within `room_seconds`, or its files cannot be had.
        """
        generation = adapter.generation
        with self.changed:
            self.changed.wait_for(lambda: generation not in self._returning)
            if adapter.is_resident:
                return
            self._returning.add(generation)
            try:
                self._make_room(adapter)
            except BaseException:
                self._end_return(generation)
                raise
        weights = None
        try:
            weights = self._read_again(adapter)
        finally:
            with self.changed:
                adapter.memory.weights = weights
                if weights is None:
                    self._residency.evict(generation)
                self._end_return(generation)

    def check_integrity(self) -> None:
        """Counts and memory add up. Raises AssertionError otherwise."""
        self._residency.check_integrity()
        for generation, adapter in self._adapters.items():
            if generation not in self._returning:
                assert adapter.is_resident == self._residency.is_resident(generation), (
                    "memory is not as counted"
                )

    def _end_return(self, generation: int) -> None:
        self._returning.discard(generation)
        self.changed.notify_all()

    def _make_room(self, adapter: LoadedAdapter) -> None:
        """Reserve room, waiting for requests on others to end when it is they who take it."""
        deadline = time.monotonic() + self._limits.room_seconds
        while self._residency.victims_for(adapter.generation) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._residency.could_ever_fit(adapter.generation):
                raise self._no_room(adapter)
            self.changed.wait(remaining)
        self._admit(adapter)

    def _admit(self, adapter: LoadedAdapter) -> None:
        for victim in self._residency.admit(adapter.generation):
            self._evict(self._adapters[victim])

    def _evict(self, adapter: LoadedAdapter) -> None:
        # Under the lock: the engine hears of it before anybody can send it a request on this adapter again.
        adapter.memory.weights = None
        if self.holder is not None:
            self.holder.vacate(adapter.generation)

    def _no_room(self, adapter: LoadedAdapter) -> AdapterError:
        return AdapterError(
            f"there is no room in memory for adapter {adapter.name!r} of {adapter.num_bytes} bytes: of "
            f"{self._limits.max_resident_bytes} bytes for at most {self._limits.max_resident} adapters "
            f"{self._residency.num_bytes} are taken, {self._residency.num_pinned_bytes} of them by pinned ones",
            code="no_room",
        )
