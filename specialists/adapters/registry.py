"""The adapters this server knows: loaded under a name, each load a new immutable generation, counted while in use.

A name stands for one generation at a time; replacing it is one step under the lock, after everything that can fail. A
generation that lost its name drains: the requests it has end on it, and with the last of them its memory, its slot
and its cached prefixes go.
"""

import itertools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from specialists.adapters.checkpoint import LoraWeights
from specialists.adapters.errors import AdapterError
from specialists.adapters.limits import AdapterLimits
from specialists.adapters.loaded import AdapterStatus, LoadedAdapter
from specialists.adapters.lora import AdapterWeights
from specialists.adapters.memory import AdapterHolder, ResidentAdapters
from specialists.adapters.reading import AdapterReader
from specialists.engine.qwen_config import QwenConfig
from specialists.manifest import SpecialistManifest

__all__ = ["AdapterRegistry", "LoadedAdapter"]

NO_GENERATION = 0  # the expected generation of a name that must be free


@dataclass(slots=True)
class _Record:
    adapter: LoadedAdapter
    routable: bool
    last_used: float | None = None


class AdapterRegistry:
    """Names to generations, with the requests in flight on each and what is in memory. Safe to use from several threads.

    `prepare` turns what was read into what the engine wants (`ModelRunner.prepare`). `base_sha256` is the identity of the
    base's weights, where it has one. Beyond the limits each thread that loads has one more adapter in memory.
    """

    def __init__(
        self,
        base: QwenConfig,
        *,
        max_rank: int = 64,
        dtype: torch.dtype = torch.bfloat16,
        prepare: Callable[[LoraWeights], AdapterWeights] | None = None,
        base_sha256: str | None = None,
        limits: AdapterLimits | None = None,
    ) -> None:
        self.limits = limits or AdapterLimits()
        self._reader = AdapterReader(base, base_sha256, max_rank, dtype, prepare, self.limits)
        self._memory = ResidentAdapters(self.limits, self._reader.read_again)
        self._lock = self._memory.changed  # guards everything below
        self._generations = itertools.count(NO_GENERATION + 1)
        self._current: dict[str, int] = {}
        self._records: dict[int, _Record] = {}  # the current and the draining generations

    def attach(self, holder: AdapterHolder) -> None:
        """Name the engine whose slots and cache hold adapters of this registry."""
        self._memory.holder = holder

    def continue_after(self, generation: int) -> None:
        """Number all later generations above this one, which an earlier process may have used. Before the first load."""
        with self._lock:
            assert not self._records, "generations have been given already"
            self._generations = itertools.count(generation + 1)

    def load(
        self,
        folder: Path,
        *,
        manifest: SpecialistManifest | None = None,
        replace: bool = False,
        expected_generation: int | None = None,
        pinned: bool | None = None,
        routable: bool | None = None,
        allow_base_mismatch: bool = False,
        trial: Callable[[LoadedAdapter], None] | None = None,
    ) -> LoadedAdapter:
        """Read, try and register the adapter in `folder` under its manifest's name. Blocks; not for an event loop.

        `manifest` stands for the folder's own. With `replace` a name that is taken gets this generation, at once for all
        later requests, and keeps being pinned or routable unless told otherwise; of several at the same time the last to
        end has the name. `expected_generation` is what the name must stand for by then, 0 for nothing. `trial` sees the
        adapter before anybody else and may raise AdapterError. Without room in memory the adapter is registered all the
        same, and comes in with its first request; only one that is pinned is refused.

        Raises AdapterError naming the folder or file, and what `trial` raises; everything is as it was then.
        """
        manifest = self._reader.read_manifest(folder, manifest, allow_base_mismatch)
        with self._lock:
            self._check_name(folder, manifest.name, replace, expected_generation)  # before the slow part
            generation = next(self._generations)
        adapter = self._reader.read(folder, manifest, generation)
        try:
            if trial is not None:
                trial(adapter)
            with self._lock:
                old = self._check_name(folder, manifest.name, replace, expected_generation)
                self._register(adapter, old, pinned, routable)
        except BaseException:
            self._memory.discard(adapter)
            raise
        return adapter

    def unload(self, name: str, expected_generation: int | None = None) -> LoadedAdapter:
        """Take the name away at once; the requests in flight end on the generation, which `wait_idle` waits for.

        Raises KeyError when there is none (unloading twice), AdapterError when the name stands for another generation.
        """
        with self._lock:
            adapter = self._expect(name, expected_generation).adapter
            del self._current[name]
            self._retire(adapter)
        return adapter

    def wait_idle(self, adapter: LoadedAdapter, timeout: float | None = None) -> bool:
        """Block until no request is in flight on this generation; False when `timeout` seconds have passed."""
        with self._lock:
            return self._lock.wait_for(lambda: self._memory.num_users(adapter) == 0, timeout)

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._current)

    def routable_names(self) -> list[str]:
        """Those that routing may choose; the others answer to their name only."""
        with self._lock:
            return sorted(name for name in self._current if self._record(name).routable)

    def get(self, name: str) -> LoadedAdapter:
        """The current generation under `name`. Raises KeyError when there is none."""
        with self._lock:
            return self._record(name).adapter

    def acquire(self, name: str) -> LoadedAdapter:
        """Look up and count one request in, in one step: an unload in between must not be possible.

        An adapter that is not resident needs `ensure_resident` before the engine can have it. Raises KeyError.
        """
        with self._lock:
            record = self._record(name)
            self._memory.use(record.adapter)
            record.last_used = time.time()
            return record.adapter

    def release(self, adapter: LoadedAdapter) -> None:
        """Count one request out."""
        with self._lock:
            assert self._memory.num_users(adapter) > 0, f"{adapter.name} was released once too often"
            self._records[adapter.generation].last_used = time.time()
            self._leave(adapter)

    def num_in_flight(self, name: str) -> int:
        with self._lock:
            return self._memory.num_users(self._record(name).adapter)

    def ensure_resident(self, adapter: LoadedAdapter) -> None:
        """Bring an adapter that the caller has acquired into memory, if it is not there. Blocks; not for an event loop.

        Of several callers one reads. When adapters in use take all the room, waits for them, at most
        `limits.room_seconds`; not when pinned ones do. Raises AdapterError: no room, or its files have changed or gone.
        """
        with self._lock:
            self._memory.use(adapter)  # so that it stays known when the caller gives up meanwhile
        try:
            self._memory.bring_back(adapter)
        finally:
            with self._lock:
                self._leave(adapter)

    def set_pinned(self, name: str, pinned: bool, expected_generation: int | None = None) -> AdapterStatus:
        """Keep an adapter in memory, bringing it back first, or let it give way again. Blocks when it has to read.

        Raises KeyError, and AdapterError: another generation has the name, or what `ensure_resident` raises.
        """
        with self._lock:
            adapter = self._expect(name, expected_generation).adapter
            self._memory.use(adapter)
        try:
            if pinned:
                self._memory.bring_back(adapter)
            with self._lock:
                self._expect(name, adapter.generation)
                self._memory.pin(adapter, pinned)
        finally:
            with self._lock:
                self._leave(adapter)
        return self.status(name)

    def set_routable(
        self, name: str, routable: bool, expected_generation: int | None = None
    ) -> AdapterStatus:
        """Say whether routing may choose it. Raises KeyError, and AdapterError when another generation has the name."""
        with self._lock:
            self._expect(name, expected_generation).routable = routable
        return self.status(name)

    def status(self, name: str) -> AdapterStatus:
        """The generation that has the name. Raises KeyError."""
        active = self._memory.active()
        with self._lock:
            return self._status(self._record(name), active)

    def statuses(self) -> list[AdapterStatus]:
        """All generations, by name; the current one of a name before those that drain."""
        active = self._memory.active()
        with self._lock:
            found = [self._status(record, active) for record in self._records.values()]
        return sorted(found, key=lambda status: (status.name, status.draining, status.generation))

    @property
    def num_resident_bytes(self) -> int:
        return self._memory.num_bytes

    def check_integrity(self) -> None:
        """Names, counts and memory add up. Raises AssertionError otherwise."""
        with self._lock:
            self._memory.check_integrity()
            for generation, record in self._records.items():
                is_current = self._current.get(record.adapter.name) == generation
                assert is_current or self._memory.num_users(record.adapter) > 0, (
                    "an idle adapter still drains"
                )

    def _record(self, name: str) -> _Record:
        return self._records[self._current[name]]

    def _expect(self, name: str, generation: int | None) -> _Record:
        """What the name stands for. Raises KeyError, and AdapterError unless it is `generation`, if that is given."""
        record = self._record(name)
        if generation not in (None, record.adapter.generation):
            raise _generation_mismatch(name, record.adapter.generation, generation)
        return record

    def _check_name(
        self, folder: Path, name: str, replace: bool, expected: int | None
    ) -> LoadedAdapter | None:
        """What has the name now. Raises AdapterError unless the name may go to a new generation."""
        generation = self._current.get(name, NO_GENERATION)
        if generation != NO_GENERATION and not replace:
            raise AdapterError(
                f"{folder}: an adapter named {name!r} is already loaded (generation {generation})",
                code="name_taken",
            )
        if expected not in (None, generation):
            raise _generation_mismatch(name, generation, expected)
        if generation != NO_GENERATION:
            return self._records[generation].adapter
        if len(self._current) >= self.limits.max_registered:
            raise AdapterError(
                f"{folder}: {len(self._current)} adapters are loaded, the limit", code="too_many"
            )
        return None

    def _register(
        self, adapter: LoadedAdapter, old: LoadedAdapter | None, pinned: bool | None, routable: bool | None
    ) -> None:
        if pinned is None:
            pinned = old is not None and self._memory.is_pinned(old)
        if routable is None:
            routable = old is None or self._records[old.generation].routable
        self._memory.add(adapter, old, pinned)
        self._records[adapter.generation] = _Record(adapter, routable)
        self._current[adapter.name] = adapter.generation
        if old is not None:
            self._retire(old)
        self._memory.settle(adapter)
        self._memory.pin(adapter, pinned)

    def _retire(self, adapter: LoadedAdapter) -> None:
        """Let a generation that has lost its name go, with its last request if it has any."""
        self._memory.pin(adapter, False)
        if self._memory.num_users(adapter) == 0:
            self._drop(adapter)

    def _leave(self, adapter: LoadedAdapter) -> None:
        if self._memory.leave(adapter) == 0 and self._current.get(adapter.name) != adapter.generation:
            self._drop(adapter)

    def _drop(self, adapter: LoadedAdapter) -> None:
        del self._records[adapter.generation]
        self._memory.remove(adapter)

    def _status(self, record: _Record, active: Collection[int]) -> AdapterStatus:
        adapter = record.adapter
        return AdapterStatus.of(
            adapter,
            is_active=adapter.generation in active,
            pinned=self._memory.is_pinned(adapter),
            routable=record.routable,
            draining=self._current.get(adapter.name) != adapter.generation,
            in_flight=self._memory.num_users(adapter),
            last_used=record.last_used,
        )


def _generation_mismatch(name: str, found: int, expected: int | None) -> AdapterError:
    what = "nothing" if found == NO_GENERATION else f"generation {found}"
    sentence = f"the name {name!r} stands for {what}, expected generation {expected}"
    return AdapterError(sentence, code="generation_mismatch")
