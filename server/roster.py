"""Loads, changes and unloads specialists, and remembers it.

Everything runs on one thread, one operation after the other, so of two that concern one name the later finds what the
earlier left. An operation is checked, then committed to the database, then made visible: a crash in between leaves the
old state or the new one. Knows no HTTP.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from server.errors import SpecialistNotFoundError
from server.intents import IntentRegistrar
from server.ledger import Change, Ledger, digest_of
from server.local_specialists import (
    Check,
    LocalSpecialists,
    configured_record,
    needs_another_generation,
)
from server.roster_request import LoadRequest
from server.store.content import ContentStore
from server.store.errors import StoreError
from server.store.record import Source, SpecialistRecord
from specialists.adapters.errors import AdapterError

if TYPE_CHECKING:  # imports torch
    from specialists.adapters.loaded import AdapterStatus, LoadedAdapter

logger = logging.getLogger(__name__)

Observer = Callable[[str, str, float], None]
T = TypeVar("T")


def _unobserved(_operation: str, _outcome: str, _seconds: float) -> None: ...


class Roster:
    """Who is here. The coroutines may be called from any event loop; `trial` is asked of each newly loaded specialist."""

    def __init__(
        self, local: LocalSpecialists, ledger: Ledger, executor: Executor, trial: Check | None = None
    ) -> None:
        self.observe: Observer = _unobserved  # hears operation, outcome and seconds
        self._local = local
        self._ledger = ledger
        self._executor = executor
        self._trial = trial
        self._ended = threading.Event()
        self._refresher: threading.Thread | None = None

    @property
    def refused(self) -> Mapping[str, str]:
        """Specialists that should be here and are not, by name, with the reason."""
        return self._local.refused

    @property
    def intents(self) -> IntentRegistrar:
        return self._local.intents

    @property
    def content(self) -> ContentStore:
        return self._ledger.content

    def record(self, name: str) -> SpecialistRecord | None:
        return self._ledger.get(name)

    async def load(self, request: LoadRequest) -> "AdapterStatus":
        """The new generation, as it stood before the next operation began.

        Raises AdapterError, SpecialistNotFoundError, StoreError; nothing has changed then.
        """
        return await self._run("load", lambda: self._load(request))

    async def update(
        self, name: str, pinned: bool | None, routable: bool | None, expected_generation: int | None
    ) -> None:
        """Raises SpecialistNotFoundError, AdapterError, StoreError; nothing has changed then."""
        await self._run("update", lambda: self._update(name, pinned, routable, expected_generation))

    async def unload(self, name: str, expected_generation: int | None) -> "LoadedAdapter | None":
        """Take the name away; requests in flight go on. None for one that was remembered but could not be loaded.

        Raises SpecialistNotFoundError, AdapterError, StoreError; nothing has changed then.
        """
        return await self._run("unload", lambda: self._unload(name, expected_generation))

    def restore(self) -> None:
        """At the start, before anything serves: what the settings offer and the database remembers.

        A specialist that cannot be loaded is left out and noted in `refused`. Raises StoreError.
        """
        snapshot = self._ledger.read()
        registry = self._local.registry
        registry.continue_after(snapshot.last_generation)
        for name in sorted(self._local.configured.keys() | snapshot.records.keys()):
            record = snapshot.records.get(name) or configured_record(name)
            if not record.unloaded:
                self._local.bring_in(record)
        self._ledger.note_generation(max((s.generation for s in registry.statuses()), default=0))

    def start(self, refresh_seconds: float) -> None:
        """Begin to take over what other servers change; 0 is never."""
        if refresh_seconds > 0:
            self._refresher = threading.Thread(
                target=self._refresh_regularly, args=(refresh_seconds,), name="roster-refresh", daemon=True
            )
            self._refresher.start()

    def close(self) -> None:
        """Let the operation that runs end, and forget the ones that wait."""
        self._ended.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._refresher is not None:
            self._refresher.join()
        self._ledger.close()

    async def _run(self, operation: str, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._observed, operation, work)

    def _observed(self, operation: str, work: Callable[[], T]) -> T:
        started, outcome = time.perf_counter(), "failed"
        try:
            self._refresh()  # what another server has done comes first: the answer must not contradict it
            result = work()
            outcome = "done"
            return result
        except (AdapterError, SpecialistNotFoundError):
            outcome = "refused"
            raise
        finally:
            self.observe(operation, outcome, time.perf_counter() - started)

    def _load(self, request: LoadRequest) -> "AdapterStatus":
        if request.source is Source.CATALOG:
            return self._load_from(self._local.configured_folder(request.name), None, request)
        if request.source is Source.PATH:
            folder = self._local.allowed_folder(request.path)
            return self._load_from(folder, str(folder), request)
        assert request.upload is not None, "an upload has a folder"
        digest = self.content.keep(request.upload)
        try:
            return self._load_from(self.content.folder_of(digest), digest, request)
        except BaseException:
            self._ledger.drop_files(digest)
            raise

    def _load_from(self, folder: Path, location: str | None, request: LoadRequest) -> "AdapterStatus":
        name = request.name
        old = self._ledger.get(name)
        if self._local.get(name) is None and old is not None and not (old.unloaded or request.replace):
            why = self.refused.get(name, "it could not be loaded")
            raise AdapterError(
                f"the name {name!r} belongs to a specialist that is left out here ({why}); replace or unload it",
                code="name_taken",
            )
        record = self._record_of(request, location)
        is_written = False

        def commit(adapter: "LoadedAdapter") -> None:
            nonlocal is_written
            if self._trial is not None:
                self._trial(adapter)
            # A configured folder is read anew at each start: that of an upgraded package has another content.
            sha256 = None if record.source is Source.CATALOG else adapter.sha256
            self._ledger.write(replace(record, sha256=sha256), adapter.generation)
            is_written = True

        try:
            self._local.load(
                folder,
                record,
                commit,
                replace=request.replace,
                expected_generation=request.expected_generation,
            )
        except BaseException:
            if is_written:
                self._ledger.restore(name, old)
            raise
        self._ledger.drop_files(digest_of(old))
        return self._local.registry.status(name)

    def _record_of(self, request: LoadRequest, location: str | None) -> SpecialistRecord:
        """What was asked for; of a replaced specialist it keeps whether it is pinned and routable."""
        is_loaded = self._local.get(request.name) is not None
        before = self._local.registry.status(request.name) if is_loaded else None
        pinned = request.pinned
        return SpecialistRecord(
            name=request.name,
            source=request.source,
            location=location,
            intent=request.intent,
            description=request.description,
            examples=request.examples,
            pinned=(before is not None and before.pinned) if pinned is None else pinned,
            routable=before is None or before.routable,
            allow_base_mismatch=request.allow_base_mismatch,
        )

    def _update(
        self, name: str, pinned: bool | None, routable: bool | None, expected_generation: int | None
    ) -> None:
        if self._local.get(name) is None:
            raise SpecialistNotFoundError(name)
        registry = self._local.registry
        before = registry.status(name)
        try:
            self._local.update(name, pinned, routable, expected_generation)
            after = registry.status(name)
            record = self._ledger.get(name) or configured_record(name)
            self._ledger.write(replace(record, pinned=after.pinned, routable=after.routable))
        except BaseException:
            self._local.update(name, before.pinned, before.routable)
            raise

    def _unload(self, name: str, expected_generation: int | None) -> "LoadedAdapter | None":
        loaded, record = self._local.get(name), self._ledger.get(name)
        if loaded is None and (record is None or record.unloaded):
            raise SpecialistNotFoundError(name)
        found = 0 if loaded is None else loaded.generation
        if expected_generation not in (None, found):
            raise AdapterError(
                f"the name {name!r} stands for generation {found}, expected generation {expected_generation}",
                code="generation_mismatch",
            )
        if name in self._local.configured:
            # Without a word in the database the next start would load it again.
            self._ledger.write(replace(configured_record(name), unloaded=True))
        elif record is not None:
            self._ledger.remove(record)
        self._local.take_away(name)
        self._ledger.drop_files(digest_of(record))
        return loaded

    def _refresh_regularly(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            try:
                self._executor.submit(self._refresh).result()
            except StoreError as error:
                logger.warning("cannot see what other servers have changed: %s", error)
            except (RuntimeError, CancelledError):
                return  # the executor has been shut down

    def _refresh(self) -> None:
        for change in self._ledger.changes():
            logger.info("taking over a change of another server", extra={"specialist": change.name})
            self._follow(change)

    def _follow(self, change: Change) -> None:
        """Make here of one specialist what another server has made of it."""
        name, after = change.name, change.after
        if after is None and name in self._local.configured:
            after = configured_record(name)
        if after is None or after.unloaded:
            self._local.take_away(name)
        elif self._local.get(name) is None or needs_another_generation(change.before, after):
            self._local.bring_in(after, self._trial)
        else:
            self._local.update(name, after.pinned, after.routable)
