"""The adapters this server knows: loaded under a name, each load a new immutable generation, counted while in use.

A name stands for one generation at a time; replacing it is one step under the lock, after everything that can fail. A
generation that lost its name drains: the requests it has end on it, and with the last of them its memory, its slot
and its cached prefixes go.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from specialists.adapters.checkpoint import Checkpoint, LoraWeights, read_checkpoint, read_folder_manifest
from specialists.adapters.errors import AdapterError
from specialists.adapters.limits import AdapterLimits
from specialists.adapters.loaded import AdapterMemory, AdapterState, AdapterStatus, LoadedAdapter
from specialists.adapters.lora import AdapterWeights
from specialists.adapters.residency import Residency
from specialists.engine.qwen_config import QwenConfig
from specialists.manifest import SpecialistManifest

__all__ = ["RESERVED_NAMES", "AdapterRegistry", "LoadedAdapter"]

RESERVED_NAMES = frozenset({"auto", "base"})
NO_GENERATION = 0  # the expected generation of a name that must be free

logger = logging.getLogger(__name__)


class AdapterHolder(Protocol):
    """The engine, as the registry sees it: `AsyncEngine` is one. Its methods return at once."""

    def active_adapters(self) -> Collection[int]:
        """The generations in slots."""

    def vacate(self, generation: int) -> None:
        """Take an adapter that no request uses out of its slot."""

    def forget(self, generation: int) -> None:
        """The same, and forget the prefixes it computed: no request will name this generation again."""


@dataclass(slots=True)
class _Record:
    adapter: LoadedAdapter
    routable: bool
    last_used: float | None = None


class AdapterRegistry:
    """Names to generations, with the requests in flight on each and what is in memory. Safe to use from several threads.

    `prepare` turns what was read into what the engine wants (`ModelRunner.prepare`), so that nothing is left to do when an
    adapter comes into a slot. `base_sha256` is the identity of the base's weights, where it has one. Beyond the limits each
    thread that loads or brings back has one more adapter in memory.
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
        self._base = base
        self._base_sha256 = base_sha256
        self._max_rank = max_rank
        self._dtype = dtype
        self._prepare = prepare
        self._holder: AdapterHolder | None = None
        self._generations = itertools.count(NO_GENERATION + 1)
        self._changed = (
            threading.Condition()
        )  # guards everything below; notified when room or an idle adapter appears
        self._current: dict[str, int] = {}
        self._records: dict[int, _Record] = {}  # the current and the draining generations
        self._residency = Residency(self.limits.max_resident, self.limits.max_resident_bytes)
        self._returning: set[int] = set()  # being brought back into memory by some thread

    def attach(self, holder: AdapterHolder) -> None:
        """Name the engine whose slots and cache hold adapters of this registry."""
        self._holder = holder

    def continue_after(self, generation: int) -> None:
        """Number all later generations above this one, which an earlier process may have used. Before the first load."""
        with self._changed:
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
        adapter before anybody else and may raise AdapterError.

        Raises AdapterError naming the folder or file, and what `trial` raises; everything is as it was then.
        """
        manifest = manifest or read_folder_manifest(folder)
        if manifest.name in RESERVED_NAMES:
            raise AdapterError(f"{folder}: the name {manifest.name!r} is reserved", code="name_reserved")
        self._check_base(folder, manifest, allow_base_mismatch)
        with self._changed:
            self._check_name(folder, manifest.name, replace, expected_generation)  # before the slow part
        adapter = self._make(folder, manifest, self._read(folder))
        try:
            if trial is not None:
                trial(adapter)
            with self._changed:
                old = self._check_name(folder, manifest.name, replace, expected_generation)
                self._register(adapter, old, pinned, routable)
        except BaseException:
            adapter.memory.weights = None
            self._forget(adapter)
            raise
        return adapter

    def unload(self, name: str, expected_generation: int | None = None) -> LoadedAdapter:
        """Take the name away at once; the requests in flight end on the generation, which `wait_idle` waits for.

        Raises KeyError when there is none, AdapterError when the name stands for another generation.
        """
        with self._changed:
            adapter = self._records[self._current[name]].adapter
            if expected_generation is not None and expected_generation != adapter.generation:
                raise _generation_mismatch(name, adapter.generation, expected_generation)
            del self._current[name]
            self._retire(adapter)
        return adapter

    def wait_idle(self, adapter: LoadedAdapter, timeout: float | None = None) -> bool:
        """Block until no request is in flight on this generation; False when `timeout` seconds have passed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._num_in_flight(adapter) == 0, timeout)

    def names(self) -> list[str]:
        with self._changed:
            return sorted(self._current)

    def routable_names(self) -> list[str]:
        """Those that routing may choose; the others answer to their name only."""
        with self._changed:
            return sorted(
                name for name, generation in self._current.items() if self._records[generation].routable
            )

    def get(self, name: str) -> LoadedAdapter:
        """The current generation under `name`. Raises KeyError when there is none."""
        with self._changed:
            return self._records[self._current[name]].adapter

    def acquire(self, name: str) -> LoadedAdapter:
        """Look up and count one request in, in one step: an unload in between must not be possible.

        An adapter that is not resident needs `ensure_resident` before the engine can have it. Raises KeyError.
        """
        with self._changed:
            record = self._records[self._current[name]]
            self._residency.use(record.adapter.generation)
            record.last_used = time.time()
            return record.adapter

    def release(self, adapter: LoadedAdapter) -> None:
        """Count one request out."""
        with self._changed:
            assert self._num_in_flight(adapter) > 0, f"{adapter.name} was released once too often"
            self._records[adapter.generation].last_used = time.time()
            self._leave(adapter)

    def num_in_flight(self, name: str) -> int:
        with self._changed:
            return self._residency.num_users(self._current[name])

    def ensure_resident(self, adapter: LoadedAdapter) -> None:
        """Bring an adapter that the caller has acquired into memory, if it is not there. Blocks; not for an event loop.

        Of several callers one reads. When the adapters in use take all the room, waits for them, at most
        `limits.room_seconds`. Raises AdapterError: its files have changed or gone, or there is no room.
        """
        generation = adapter.generation
        with self._changed:
            self._residency.use(generation)  # so that it stays known if the caller gives up meanwhile
            try:
                self._changed.wait_for(lambda: generation not in self._returning)
                if adapter.is_resident:
                    return
                self._returning.add(generation)
                self._make_room(adapter)
            except BaseException:
                self._returning.discard(generation)
                self._leave(adapter)
                raise
        self._bring_back(adapter)

    def set_pinned(self, name: str, pinned: bool, expected_generation: int | None = None) -> AdapterStatus:
        """Keep an adapter in memory, bringing it back first, or let it give way again. Blocks when it has to read.

        Raises KeyError, and AdapterError: another generation has the name, or what `ensure_resident` raises.
        """
        adapter = self.acquire(name)
        try:
            if expected_generation not in (None, adapter.generation):
                raise _generation_mismatch(name, adapter.generation, expected_generation)
            if pinned:
                self.ensure_resident(adapter)
            with self._changed:
                if self._current.get(name) != adapter.generation:
                    found = self._current.get(name, NO_GENERATION)
                    raise _generation_mismatch(name, found, adapter.generation)
                self._residency.pin(adapter.generation, pinned)
                self._changed.notify_all()
        finally:
            self.release(adapter)
        return self.status(name)

    def set_routable(
        self, name: str, routable: bool, expected_generation: int | None = None
    ) -> AdapterStatus:
        """Say whether routing may choose it. Raises KeyError, and AdapterError when another generation has the name."""
        with self._changed:
            record = self._records[self._current[name]]
            if expected_generation not in (None, record.adapter.generation):
                raise _generation_mismatch(name, record.adapter.generation, expected_generation)
            record.routable = routable
        return self.status(name)

    def status(self, name: str) -> AdapterStatus:
        """The generation that has the name. Raises KeyError."""
        active = self._active()
        with self._changed:
            return self._status(self._records[self._current[name]], active)

    def statuses(self) -> list[AdapterStatus]:
        """All generations, by name; the current one of a name before those that drain."""
        active = self._active()
        with self._changed:
            found = [self._status(record, active) for record in self._records.values()]
        return sorted(found, key=lambda status: (status.name, status.draining, status.generation))

    @property
    def num_resident_bytes(self) -> int:
        with self._changed:
            return self._residency.num_bytes

    def check_integrity(self) -> None:
        """Names, counts and memory add up. Raises AssertionError otherwise."""
        with self._changed:
            self._residency.check_integrity()
            assert set(self._current.values()) <= set(self._records), "a name stands for nothing"
            for generation, record in self._records.items():
                is_current = self._current.get(record.adapter.name) == generation
                assert is_current or self._residency.num_users(generation) > 0, "an idle adapter still drains"
                if generation not in self._returning:
                    assert record.adapter.is_resident == self._residency.is_resident(generation)

    def _check_base(self, folder: Path, manifest: SpecialistManifest, allow_mismatch: bool) -> None:
        wanted, found = manifest.base_sha256, self._base_sha256
        if wanted is None or found is None or wanted == found:
            return
        sentence = f"{folder}: it was trained on the base {wanted[:16]}, this server's base is {found[:16]}"
        if not allow_mismatch:
            raise AdapterError(sentence, code="base_mismatch")
        logger.warning("%s; loaded all the same, as allowed", sentence)

    def _check_name(
        self, folder: Path, name: str, replace: bool, expected: int | None
    ) -> LoadedAdapter | None:
        """What has the name now; raises AdapterError unless it may be given to a new generation."""
        generation = self._current.get(name, NO_GENERATION)
        if generation != NO_GENERATION and not replace:
            raise AdapterError(
                f"{folder}: an adapter named {name!r} is already loaded (generation {generation})",
                code="name_taken",
            )
        if expected is not None and expected != generation:
            raise _generation_mismatch(name, generation, expected)
        if generation == NO_GENERATION:
            if len(self._current) >= self.limits.max_registered:
                raise AdapterError(
                    f"{folder}: {len(self._current)} adapters are loaded, the limit", code="too_many"
                )
            return None
        return self._records[generation].adapter

    def _read(self, folder: Path) -> Checkpoint:
        return read_checkpoint(folder, self._base, self._max_rank, self._dtype, self.limits.max_file_bytes)

    def _ready(self, weights: LoraWeights) -> AdapterWeights:
        return weights if self._prepare is None else self._prepare(weights)

    def _make(self, folder: Path, manifest: SpecialistManifest, checkpoint: Checkpoint) -> LoadedAdapter:
        weights = self._ready(checkpoint.weights)
        if weights.num_bytes > self.limits.max_resident_bytes:
            raise AdapterError(
                f"{folder}: it takes {weights.num_bytes} bytes in memory, all adapters together may take "
                f"{self.limits.max_resident_bytes}",
                code="too_large",
            )
        return LoadedAdapter(
            name=manifest.name,
            generation=next(self._generations),
            manifest=manifest,
            folder=folder,
            sha256=checkpoint.sha256,
            rank=weights.rank,
            targets=checkpoint.weights.targets,
            num_bytes=weights.num_bytes,
            memory=AdapterMemory(weights),
        )

    def _register(
        self, adapter: LoadedAdapter, old: LoadedAdapter | None, pinned: bool | None, routable: bool | None
    ) -> None:
        """Give the name to `adapter`; into memory with it if there is room, which one that is pinned must find."""
        if pinned is None:
            pinned = old is not None and self._residency.is_pinned(old.generation)
        if routable is None:
            routable = old is None or self._records[old.generation].routable
        generation = adapter.generation
        self._residency.add(generation, adapter.num_bytes)
        leaving = None if old is None else old.generation
        if pinned and self._residency.victims_for(generation, leaving) is None:
            self._residency.remove(generation)
            raise self._no_room(adapter)
        self._records[generation] = _Record(adapter, routable)
        self._current[adapter.name] = generation
        if old is not None:
            self._retire(old)
        if self._residency.victims_for(generation) is not None:
            self._admit(adapter)
        else:
            adapter.memory.weights = None
            self._vacate(adapter)
        self._residency.pin(generation, pinned)

    def _retire(self, adapter: LoadedAdapter) -> None:
        """Let a generation that has lost its name go, with its last request if it has any."""
        self._residency.pin(adapter.generation, False)
        if self._residency.num_users(adapter.generation) == 0:
            self._drop(adapter)

    def _leave(self, adapter: LoadedAdapter) -> None:
        self._residency.leave(adapter.generation)
        if self._residency.num_users(adapter.generation) > 0:
            return
        if self._current.get(adapter.name) != adapter.generation:
            self._drop(adapter)
        self._changed.notify_all()

    def _drop(self, adapter: LoadedAdapter) -> None:
        del self._records[adapter.generation]
        self._residency.remove(adapter.generation)
        adapter.memory.weights = None
        self._forget(adapter)
        self._changed.notify_all()

    def _make_room(self, adapter: LoadedAdapter) -> None:
        """Reserve room for an adapter, waiting for requests on others to end. Raises AdapterError when there is none."""
        deadline = time.monotonic() + self.limits.room_seconds
        while self._residency.victims_for(adapter.generation) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._residency.could_ever_fit(adapter.generation):
                raise self._no_room(adapter)
            self._changed.wait(remaining)
        self._admit(adapter)

    def _admit(self, adapter: LoadedAdapter) -> None:
        for victim in self._residency.admit(adapter.generation):
            evicted = self._records[victim].adapter
            evicted.memory.weights = None
            self._vacate(evicted)

    def _bring_back(self, adapter: LoadedAdapter) -> None:
        """Read what there is room for already; counts the caller of `ensure_resident` out."""
        weights = None
        try:
            checkpoint = self._read(adapter.folder)
            if checkpoint.sha256 != adapter.sha256:
                raise AdapterError(
                    f"{adapter.folder} has changed since it was loaded: its content is {checkpoint.sha256[:16]}, "
                    f"expected {adapter.sha256[:16]}; load it anew",
                    code="content_changed",
                )
            weights = self._ready(checkpoint.weights)
        finally:
            with self._changed:
                self._returning.discard(adapter.generation)
                if weights is None:
                    self._residency.evict(adapter.generation)
                adapter.memory.weights = weights
                self._leave(adapter)
                self._changed.notify_all()

    def _no_room(self, adapter: LoadedAdapter) -> AdapterError:
        return AdapterError(
            f"there is no room in memory for adapter {adapter.name!r}: it takes {adapter.num_bytes} bytes; of "
            f"{self.limits.max_resident_bytes} bytes for at most {self.limits.max_resident} adapters "
            f"{self._residency.num_bytes} are taken, {self._residency.num_pinned_bytes} of them by pinned ones",
            code="no_room",
        )

    def _num_in_flight(self, adapter: LoadedAdapter) -> int:
        known = adapter.generation in self._residency
        return self._residency.num_users(adapter.generation) if known else 0

    def _active(self) -> Collection[int]:
        return () if self._holder is None else self._holder.active_adapters()

    # Both are called under the lock: the engine hears of it before anybody can send a request on the adapter again.
    def _vacate(self, adapter: LoadedAdapter) -> None:
        if self._holder is not None:
            self._holder.vacate(adapter.generation)

    def _forget(self, adapter: LoadedAdapter) -> None:
        if self._holder is not None:
            self._holder.forget(adapter.generation)

    def _status(self, record: _Record, active: Collection[int]) -> AdapterStatus:
        adapter = record.adapter
        state = AdapterState.RESIDENT if adapter.is_resident else AdapterState.REGISTERED
        return AdapterStatus(
            name=adapter.name,
            generation=adapter.generation,
            sha256=adapter.sha256,
            rank=adapter.rank,
            targets=adapter.targets,
            num_bytes=adapter.num_bytes,
            manifest=adapter.manifest,
            folder=adapter.folder,
            state=AdapterState.ACTIVE if adapter.is_resident and adapter.generation in active else state,
            pinned=self._residency.is_pinned(adapter.generation),
            routable=record.routable,
            draining=self._current.get(adapter.name) != adapter.generation,
            in_flight=self._residency.num_users(adapter.generation),
            last_used=record.last_used,
        )


def _generation_mismatch(name: str, found: int, expected: int | None) -> AdapterError:
    what = "nothing" if found == NO_GENERATION else f"generation {found}"
    return AdapterError(
        f"the name {name!r} stands for {what}, expected generation {expected}", code="generation_mismatch"
    )
