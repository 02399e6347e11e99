"""The specialists of this server: loads, changes and unloads them, and remembers it.

Everything runs on one thread, one operation after the other, so of two that concern one name the later finds what the
earlier left. An operation is checked, then committed to the database, then made visible: a crash in between leaves the
old state or the new one. Knows no HTTP.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from server.errors import SpecialistNotFoundError
from server.intents import IntentRegistrar
from server.roster_request import LoadRequest, manifest_of
from server.store.content import ContentStore
from server.store.errors import StoreError
from server.store.record import Source, SpecialistRecord
from specialists.adapters.containment import resolve_under
from specialists.adapters.errors import AdapterError

if TYPE_CHECKING:  # these import SQLAlchemy and torch
    from server.store.specialists import SpecialistStore
    from specialists.adapters.registry import AdapterRegistry, LoadedAdapter

logger = logging.getLogger(__name__)

Trial = Callable[["LoadedAdapter"], None]
Observer = Callable[[str, str, float], None]
T = TypeVar("T")


def _unobserved(_operation: str, _outcome: str, _seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where specialists may come from: by name out of the configured folders, by path below the roots."""

    configured: Mapping[str, Path]
    roots: Sequence[Path]


class Roster:
    """Owns what is loaded. The public coroutines may be called from the event loop; the rest runs on its thread."""

    def __init__(
        self,
        registry: "AdapterRegistry",
        store: "SpecialistStore",
        content: ContentStore,
        sources: Sources,
        intents: IntentRegistrar,
        executor: Executor,
        trial: Trial | None = None,
    ) -> None:
        self.registry = registry
        self.content = content
        self.intents = intents
        self.refused: dict[str, str] = {}  # name -> why a specialist that should be here is not
        self.observe: Observer = _unobserved
        self._store = store
        self._sources = sources
        self._executor = executor
        self._trial = trial
        self._records: dict[str, SpecialistRecord] = {}
        self._revision = -1
        self._ended = threading.Event()
        self._refresher: threading.Thread | None = None

    async def load(self, request: LoadRequest) -> "LoadedAdapter":
        """Raises AdapterError, SpecialistNotFoundError, StoreError; nothing has changed then."""
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

    def record(self, name: str) -> SpecialistRecord | None:
        return self._records.get(name)

    def restore(self) -> None:
        """At the start, before anything serves: what the settings offer and the database remembers.

        A specialist that cannot be loaded is left out and noted in `refused`. Raises StoreError.
        """
        snapshot = self._store.read()
        self._records, self._revision = dict(snapshot.records), snapshot.revision
        self.registry.continue_after(snapshot.last_generation)
        named = {record.location for record in snapshot.records.values() if record.source is Source.UPLOAD}
        for digest in self.content.sweep({name for name in named if name is not None}):
            logger.info("uploaded files that nothing names are deleted", extra={"digest": digest[:16]})
        for name in sorted(self._sources.configured.keys() | snapshot.records.keys()):
            self._bring_in(self._records.get(name) or _configured(name), trial=None)
        statuses = self.registry.statuses()
        self._store.note_generation(max((status.generation for status in statuses), default=0))

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
        if self._refresher is not None:
            self._refresher.join()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._store.close()
        self.content.close()

    async def refresh(self) -> None:
        """Take over now what other servers have changed. Raises StoreError."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._refresh)

    async def _run(self, operation: str, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self._observed, operation, work
        )

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

    def _load(self, request: LoadRequest) -> "LoadedAdapter":
        if request.upload is None:
            return self._load_from(request, self._folder_of(request), None)
        digest = self.content.keep(request.upload)
        try:
            return self._load_from(request, self.content.folder_of(digest), digest)
        except BaseException:
            self._drop_unnamed(digest)
            raise

    def _load_from(self, request: LoadRequest, folder: Path, digest: str | None) -> "LoadedAdapter":
        old_record = self._records.get(request.name)
        old = self._current(request.name)
        status = None if old is None else self.registry.status(request.name)
        if old is None and old_record is not None and not (old_record.unloaded or request.replace):
            why = self.refused.get(request.name, "it could not be loaded")
            raise AdapterError(
                f"the name {request.name!r} belongs to a specialist that is left out here ({why}); replace it, or "
                "unload it first",
                code="name_taken",
            )
        record = SpecialistRecord(
            name=request.name,
            source=request.source,
            location=str(folder) if request.source is Source.PATH else digest,
            intent=request.intent,
            description=request.description,
            examples=request.examples,
            pinned=request.pinned if request.pinned is not None else status is not None and status.pinned,
            routable=status is None or status.routable,
            allow_base_mismatch=request.allow_base_mismatch,
            revision=0 if old_record is None else old_record.revision,
        )
        written: list[SpecialistRecord] = []

        def commit(adapter: "LoadedAdapter") -> None:
            """The last step that may fail; what follows it is in memory."""
            if self._trial is not None:
                self._trial(adapter)
            # A configured folder is read anew at each start: a package that was upgraded has another content.
            sha256 = None if request.source is Source.CATALOG else adapter.sha256
            written.append(self._store.put(replace(record, sha256=sha256), adapter.generation))

        try:
            adapter = self.registry.load(
                folder,
                manifest=manifest_of(folder, record),
                replace=request.replace,
                expected_generation=request.expected_generation,
                pinned=record.pinned,
                routable=record.routable,
                allow_base_mismatch=request.allow_base_mismatch,
                trial=commit,
            )
        except BaseException:
            if written:
                self._undo(written[0], old_record)
            raise
        self._note(written[0])
        self.refused.pop(request.name, None)
        self._drop_files_of(old_record)
        self._learn(adapter)
        self._forget_intent(None if old is None else old.manifest.intent)
        return adapter

    def _update(
        self, name: str, pinned: bool | None, routable: bool | None, expected_generation: int | None
    ) -> None:
        adapter = self._current(name)
        if adapter is None:
            raise SpecialistNotFoundError(name)
        before = self.registry.status(name)
        record = self._records.get(name) or _configured(name)
        try:
            # In memory first: only there it turns out whether there is room for one more pinned specialist.
            if pinned is not None:
                self.registry.set_pinned(name, pinned, expected_generation)
            if routable is not None:
                self.registry.set_routable(name, routable, expected_generation)
            after = self.registry.status(name)
            self._note(self._store.put(replace(record, pinned=after.pinned, routable=after.routable)))
        except BaseException:
            self.registry.set_pinned(name, before.pinned)
            self.registry.set_routable(name, before.routable)
            raise

    def _unload(self, name: str, expected_generation: int | None) -> "LoadedAdapter | None":
        adapter, record = self._current(name), self._records.get(name)
        if adapter is None and (record is None or record.unloaded):
            raise SpecialistNotFoundError(name)
        found = 0 if adapter is None else adapter.generation
        if expected_generation not in (None, found):
            raise AdapterError(
                f"the name {name!r} stands for generation {found}, expected generation {expected_generation}",
                code="generation_mismatch",
            )
        if name in self._sources.configured:
            # Without a word in the database the next start would load it again.
            configured = replace(_configured(name), unloaded=True, revision=record.revision if record else 0)
            self._note(self._store.put(configured))
        elif record is not None:
            self._store.delete(record)
            del self._records[name]
        self.refused.pop(name, None)
        if adapter is not None:
            self.registry.unload(name)
            self._forget_intent(adapter.manifest.intent)
        self._drop_files_of(record)
        return adapter

    def _refresh_regularly(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            try:
                self._executor.submit(self._refresh).result()
            except StoreError as error:
                logger.warning("cannot see what other servers have changed: %s", error)
            except RuntimeError:
                return  # the executor has been shut down

    def _refresh(self) -> None:
        if self._store.revision() == self._revision:
            return
        snapshot = self._store.read()
        previous, self._records, self._revision = (
            self._records,
            dict(snapshot.records),
            snapshot.revision,
        )
        for name in sorted(previous.keys() | snapshot.records.keys()):
            before, after = previous.get(name), snapshot.records.get(name)
            if (before and before.revision) != (after and after.revision):
                logger.info("taking over a change of another server", extra={"specialist": name})
                self._follow(name, before, after)

    def _follow(self, name: str, before: SpecialistRecord | None, after: SpecialistRecord | None) -> None:
        """Make here of one specialist what another server has made of it."""
        if after is None and name in self._sources.configured:
            after = _configured(name)
        loaded = self._current(name)
        if after is None or after.unloaded:
            self.refused.pop(name, None)
            if loaded is not None:
                self.registry.unload(name)
                self._forget_intent(loaded.manifest.intent)
            return
        if loaded is not None and before is not None and _content(before) == _content(after):
            self.registry.set_pinned(name, after.pinned)
            self.registry.set_routable(name, after.routable)
            return
        self._bring_in(after, trial=self._trial)
        self._forget_intent(None if loaded is None else loaded.manifest.intent)

    def _bring_in(self, record: SpecialistRecord, trial: Trial | None) -> None:
        """Load what is remembered; a specialist that cannot be is left out, with the reason."""
        if record.unloaded:
            return

        def check(adapter: "LoadedAdapter") -> None:
            if record.sha256 is not None and adapter.sha256 != record.sha256:
                raise AdapterError(
                    f"{adapter.folder} has changed since it was loaded: its content is {adapter.sha256[:16]}, "
                    f"expected {record.sha256[:16]}; load it again to take the new one",
                    code="content_changed",
                )
            if trial is not None:
                trial(adapter)

        try:
            folder = self._remembered_folder(record)
            adapter = self.registry.load(
                folder,
                manifest=manifest_of(folder, record),
                replace=True,
                pinned=record.pinned,
                routable=record.routable,
                allow_base_mismatch=record.allow_base_mismatch,
                trial=check,
            )
        except (AdapterError, SpecialistNotFoundError, RuntimeError) as error:
            self.refused[record.name] = str(error)
            logger.error("specialist %s is left out: %s", record.name, error)
            return
        self.refused.pop(record.name, None)
        self._learn(adapter)

    def _folder_of(self, request: LoadRequest) -> Path:
        if request.source is Source.PATH:
            return resolve_under(request.path, self._sources.roots)
        return self._configured_folder(request.name)

    def _remembered_folder(self, record: SpecialistRecord) -> Path:
        if record.source is Source.CATALOG:
            return self._configured_folder(record.name)
        assert record.location is not None, f"{record.source} has a location"
        if record.source is Source.PATH:
            return resolve_under(record.location, self._sources.roots)  # they may be others than last time
        return self.content.folder_of(record.location)

    def _configured_folder(self, name: str) -> Path:
        folder = self._sources.configured.get(name)
        if folder is None:
            raise SpecialistNotFoundError(name)
        return folder

    def _current(self, name: str) -> "LoadedAdapter | None":
        try:
            return self.registry.get(name)
        except KeyError:
            return None

    def _note(self, record: SpecialistRecord) -> None:
        self._records[record.name] = record
        if record.revision == self._revision + 1:
            self._revision = record.revision  # else others have written too, and the next refresh sees it

    def _undo(self, written: SpecialistRecord, old: SpecialistRecord | None) -> None:
        try:
            if old is None:
                self._store.delete(written)
                self._records.pop(written.name, None)
            else:
                self._records[old.name] = self._store.put(replace(old, revision=written.revision))
        except StoreError:
            logger.exception("the database remembers a load that failed")

    def _drop_files_of(self, record: SpecialistRecord | None) -> None:
        if record is not None and record.source is Source.UPLOAD and record.location is not None:
            self._drop_unnamed(record.location)

    def _drop_unnamed(self, digest: str) -> None:
        """Delete uploaded files, unless some specialist still is made of them."""
        if digest not in {record.location for record in self._records.values()}:
            self.content.drop(digest)

    def _learn(self, adapter: "LoadedAdapter") -> None:
        manifest = adapter.manifest
        if manifest.intent is None or self.intents.knows(manifest.intent):
            return
        reason = self.intents.add(manifest.intent, manifest.description, manifest.examples)
        if reason is not None:
            logger.warning("specialist %s is reachable by name only: %s", adapter.name, reason)

    def _forget_intent(self, intent: str | None) -> None:
        served = {self.registry.get(name).manifest.intent for name in self.registry.names()}
        if intent is not None and intent not in served:
            self.intents.remove(intent)


def _configured(name: str) -> SpecialistRecord:
    """What holds for a specialist of the configured folders about which nobody has said anything."""
    return SpecialistRecord(name=name, source=Source.CATALOG)


def _content(record: SpecialistRecord) -> SpecialistRecord:
    """What needs another generation when it differs."""
    return replace(record, pinned=False, routable=True, revision=0)
