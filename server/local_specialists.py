"""What this process has of the specialists: in the registry, and among the delegator's intents.

Decides where a specialist's files may lie, and what becomes of one that should be here and cannot be loaded: it is left
out, with the reason, and the others serve.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import SpecialistNotFoundError
from server.intents import IntentRegistrar
from server.roster_request import manifest_of
from server.store.content import ContentStore
from server.store.record import Source, SpecialistRecord
from specialists.adapters.containment import resolve_under
from specialists.adapters.errors import AdapterError

if TYPE_CHECKING:  # imports torch
    from specialists.adapters.registry import AdapterRegistry, LoadedAdapter

logger = logging.getLogger(__name__)

Check = Callable[["LoadedAdapter"], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where specialists may come from: by name out of the configured folders, by path below the roots."""

    configured: Mapping[str, Path]
    roots: Sequence[Path]


class LocalSpecialists:
    """Used on the roster's thread only, except for `refused`."""

    def __init__(
        self, registry: "AdapterRegistry", intents: IntentRegistrar, sources: Sources, content: ContentStore
    ) -> None:
        self.registry = registry
        self.intents = intents
        self.refused: dict[str, str] = {}  # name -> why
        self._sources = sources
        self._content = content

    @property
    def configured(self) -> Mapping[str, Path]:
        return self._sources.configured

    def get(self, name: str) -> "LoadedAdapter | None":
        try:
            return self.registry.get(name)
        except KeyError:
            return None

    def allowed_folder(self, path: str) -> Path:
        """`path` with its links resolved. Raises AdapterError when it is not below a root or is no folder."""
        return resolve_under(path, self._sources.roots)

    def configured_folder(self, name: str) -> Path:
        """Raises SpecialistNotFoundError."""
        folder = self._sources.configured.get(name)
        if folder is None:
            raise SpecialistNotFoundError(name)
        return folder

    def load(
        self,
        folder: Path,
        record: SpecialistRecord,
        check: Check,
        *,
        replace: bool,
        expected_generation: int | None = None,
    ) -> "LoadedAdapter":
        """Load `folder` as `record` says; `check` is asked last, when nothing else is left that could fail but room.

        Raises AdapterError and what `check` raises; nothing has changed then.
        """
        old = self.get(record.name)
        adapter = self.registry.load(
            folder,
            manifest=manifest_of(folder, record),
            replace=replace,
            expected_generation=expected_generation,
            pinned=record.pinned,
            routable=record.routable,
            allow_base_mismatch=record.allow_base_mismatch,
            trial=check,
        )
        self.refused.pop(record.name, None)
        self._learn(adapter)
        self._forget_intent(old)
        return adapter

    def bring_in(self, record: SpecialistRecord, trial: Check | None = None) -> None:
        """Load what is remembered, or note in `refused` why it cannot be."""

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
            self.load(self._remembered_folder(record), record, check, replace=True)
        except (AdapterError, SpecialistNotFoundError, RuntimeError) as error:
            self.refused[record.name] = str(error)
            logger.error("specialist %s is left out: %s", record.name, error)

    def update(
        self, name: str, pinned: bool | None, routable: bool | None, expected_generation: int | None = None
    ) -> None:
        """Raises AdapterError; nothing has changed then."""
        # The one that can fail comes first: there may be no room for one more pinned specialist.
        if pinned is not None:
            self.registry.set_pinned(name, pinned, expected_generation)
        if routable is not None:
            self.registry.set_routable(name, routable, expected_generation)

    def take_away(self, name: str) -> "LoadedAdapter | None":
        """Its name is free from now on; requests in flight go on. None when it was not loaded."""
        self.refused.pop(name, None)
        loaded = self.get(name)
        if loaded is not None:
            self.registry.unload(name)
            self._forget_intent(loaded)
        return loaded

    def _remembered_folder(self, record: SpecialistRecord) -> Path:
        if record.source is Source.CATALOG:
            return self.configured_folder(record.name)
        assert record.location is not None, f"{record.source} has a location"
        if record.source is Source.PATH:
            return self.allowed_folder(record.location)  # the roots may be others than when it was loaded
        return self._content.folder_of(record.location)

    def _learn(self, adapter: "LoadedAdapter") -> None:
        manifest = adapter.manifest
        if manifest.intent is None:
            return
        reason = self.intents.add(manifest.intent, manifest.description, manifest.examples)
        if reason is not None:
            logger.warning("specialist %s is reachable by name only: %s", adapter.name, reason)

    def _forget_intent(self, gone: "LoadedAdapter | None") -> None:
        if gone is None or gone.manifest.intent is None:
            return
        names = self.registry.names()
        if gone.manifest.intent not in {self.registry.get(name).manifest.intent for name in names}:
            self.intents.remove(gone.manifest.intent)


def configured_record(name: str) -> SpecialistRecord:
    """What holds for a specialist of the configured folders about which nobody has said anything."""
    return SpecialistRecord(name=name, source=Source.CATALOG)


def needs_another_generation(before: SpecialistRecord | None, after: SpecialistRecord) -> bool:
    """Whether more has changed than what can be said of a loaded one."""
    if before is None:
        before = configured_record(after.name)
    return replace(before, pinned=after.pinned, routable=after.routable, revision=after.revision) != after
