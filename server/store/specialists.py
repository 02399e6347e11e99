"""Reads and writes the records. A change is one transaction, on what its writer had read or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from server.store.database import open_database, reason, shown
from server.store.errors import StoreConflictError, StoreError
from server.store.record import Snapshot, SpecialistRecord
from server.store.tables import Registry, Specialist


class SpecialistStore:
    """The records of this server, or of all that share its database. Blocking; never call it on the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str | None, state: Path) -> Self:
        """Raises StoreError when the database cannot be opened or is of a newer version."""
        return cls(open_database(url, state))

    def close(self) -> None:
        self._engine.dispose()

    def revision(self) -> int:
        """Raises StoreError, as every method does when the database cannot be reached."""
        with self._session() as session:
            return session.scalars(select(Registry.revision)).one()

    def read(self) -> Snapshot:
        """All records and the revision they belong to."""
        with self._session() as session:
            # Its lock first: a change committed between the two reads must not be in one and not in the other.
            registry = _locked(session)
            rows = session.scalars(select(Specialist)).all()
            return Snapshot(
                revision=registry.revision,
                last_generation=registry.last_generation,
                records={row.name: row.to_record() for row in rows},
            )

    def put(self, record: SpecialistRecord, generation: int = 0) -> SpecialistRecord:
        """Write `record` over the one with its `revision` (0: there must be none); returns it as written.

        `generation` is the one it is loaded as. Raises StoreConflictError when another was written meanwhile.
        """
        with self._session() as session:
            registry = _locked(session)
            current = _current(session, record)
            registry.revision += 1
            registry.last_generation = max(registry.last_generation, generation)
            written = replace(record, revision=registry.revision)
            values = asdict(written) | {"updated_at": datetime.now(UTC)}
            if written.examples is not None:
                values["examples"] = list(written.examples)
            if current is None:
                session.add(Specialist(**values))
            else:
                for name, value in values.items():
                    setattr(current, name, value)
            return written

    def delete(self, record: SpecialistRecord) -> int:
        """Forget `record`; returns the new revision. Raises StoreConflictError when it was changed meanwhile."""
        with self._session() as session:
            registry = _locked(session)
            session.delete(_current(session, record))
            registry.revision += 1
            return registry.revision

    def note_generation(self, generation: int) -> None:
        """Remember that this generation has been used, so that it is never given again."""
        with self._session() as session:
            registry = _locked(session)
            registry.last_generation = max(registry.last_generation, generation)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """One transaction, committed at the end of the block."""
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except SQLAlchemyError as error:
            raise StoreError(f"the database {shown(self._engine)} cannot be used: {reason(error)}") from error


def _locked(session: Session) -> Registry:
    """The one row whose lock makes this transaction the only writer until it ends."""
    return session.scalars(select(Registry).with_for_update()).one()


def _current(session: Session, record: SpecialistRecord) -> Specialist | None:
    """The row of this name, if it is still as `record` found it."""
    current = session.get(Specialist, record.name)
    found = 0 if current is None else current.revision
    if found != record.revision:
        raise StoreConflictError(
            f"the record of {record.name!r} was changed by another server: found revision {found}, "
            f"expected {record.revision}"
        )
    return current
