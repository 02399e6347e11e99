"""The records of specialists as this process knows them, with the database and the uploaded files behind them.

Decides when a record counts as changed by another server, and when uploaded files have lost their last name. Used on the
roster's thread only, except for `get`.
"""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from server.store.content import ContentStore
from server.store.errors import StoreError
from server.store.record import Snapshot, Source, SpecialistRecord

if TYPE_CHECKING:  # imports SQLAlchemy
    from server.store.specialists import SpecialistStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What another server has made of one record; None is no record."""

    name: str
    before: SpecialistRecord | None
    after: SpecialistRecord | None


class Ledger:
    """Every method but `get` may raise StoreError; nothing has changed then."""

    def __init__(self, store: "SpecialistStore", content: ContentStore) -> None:
        self.content = content
        self._store = store
        self._records: dict[str, SpecialistRecord] = {}
        self._revision = -1

    def get(self, name: str) -> SpecialistRecord | None:
        return self._records.get(name)

    def read(self) -> Snapshot:
        """At the start: all there is. Uploaded files that nothing names are deleted."""
        snapshot = self._take(self._store.read())
        named = {record.location or "" for record in snapshot.records.values()}
        for digest in self.content.sweep(named):
            logger.info("uploaded files that nothing names are deleted", extra={"digest": digest[:16]})
        return snapshot

    def changes(self) -> list[Change]:
        """What others have changed since the last look, by name."""
        if self._store.revision() == self._revision:
            return []
        before, after = self._records, self._take(self._store.read()).records
        names = sorted(before.keys() | after.keys())
        changes = [Change(name, before.get(name), after.get(name)) for name in names]
        return [change for change in changes if change.before != change.after]

    def write(self, record: SpecialistRecord, generation: int = 0) -> SpecialistRecord:
        """Commit `record` in the place of the one it was made from; `generation` is the one it is loaded as."""
        old = self._records.get(record.name)
        written = self._store.put(replace(record, revision=0 if old is None else old.revision), generation)
        self._records[record.name] = written
        self._note_revision(written.revision)
        return written

    def remove(self, record: SpecialistRecord) -> None:
        """Commit that there is no such record any more."""
        self._note_revision(self._store.delete(record))
        del self._records[record.name]

    def restore(self, name: str, old: SpecialistRecord | None) -> None:
        """Take back a write whose load failed after all. Raises nothing: the reason of that is told instead."""
        try:
            if old is not None:
                self.write(old)
            elif (written := self._records.get(name)) is not None:
                self.remove(written)
        except StoreError:
            logger.exception("the database remembers a load that failed", extra={"specialist": name})

    def note_generation(self, generation: int) -> None:
        self._store.note_generation(generation)

    def drop_files(self, digest: str | None) -> None:
        """Delete uploaded files, unless some specialist is made of them."""
        if digest is not None and digest not in {record.location for record in self._records.values()}:
            self.content.drop(digest)

    def close(self) -> None:
        self._store.close()
        self.content.close()

    def _take(self, snapshot: Snapshot) -> Snapshot:
        self._records, self._revision = dict(snapshot.records), snapshot.revision
        return snapshot

    def _note_revision(self, revision: int) -> None:
        if revision == self._revision + 1:
            self._revision = revision  # else others have written too, and the next look finds it


def digest_of(record: SpecialistRecord | None) -> str | None:
    """The uploaded files a record is made of."""
    return record.location if record is not None and record.source is Source.UPLOAD else None
