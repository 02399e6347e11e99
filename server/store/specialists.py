"""Reads and writes the records. A change is one transaction, on what its writer had read or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from server.store.database import open_database, reason, shown
from server.store.errors import StoreConflictError, StoreError
from server.store.record import Snapshot, SpecialistRecord
from server.store.tables import Registry, Specialist

_ROW = 1


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
            revision = session.scalars(select(Registry.revision).with_for_update()).one()
            rows = session.scalars(select(Specialist)).all()
            return Snapshot(revision=revision, records={row.name: row.to_record() for row in rows})

    def put(self, record: SpecialistRecord) -> SpecialistRecord:
        """Write `record` over the one with its `revision` (0: there must be none); returns it as written.

        Raises StoreConflictError when another was written meanwhile.
        """
        with self._session() as session:
            current = self._lock(session, record.name, record.revision)
            written = replace(record, revision=self._raise_revision(session))
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
            current = self._lock(session, record.name, record.revision)
            if current is None:
                raise StoreConflictError(f"the record of {record.name!r} is gone already")
            session.delete(current)
            return self._raise_revision(session)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """One transaction, committed at the end of the block."""
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except SQLAlchemyError as error:
            raise StoreError(f"the database {shown(self._engine)} cannot be used: {reason(error)}") from error

    def _lock(self, session: Session, name: str, revision: int) -> Specialist | None:
        """The row, if it is still at `revision`. Nobody else writes until the transaction ends."""
        session.scalars(select(Registry.revision).with_for_update()).one()
        current = session.get(Specialist, name)
        found = 0 if current is None else current.revision
        if found != revision:
            raise StoreConflictError(
                f"the record of {name!r} was changed by another server: found revision {found}, "
                f"expected {revision}"
            )
        return current

    def _raise_revision(self, session: Session) -> int:
        statement = update(Registry).where(Registry.id == _ROW).values(revision=Registry.revision + 1)
        session.execute(statement)
        return session.scalars(select(Registry.revision)).one()
