"""The tables as SQLAlchemy sees them; `migrations/` makes them. Portable between SQLite and PostgreSQL."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from server.store.record import Source, SpecialistRecord


class Base(DeclarativeBase):
    """What the migrations are compared with."""


class Registry(Base):
    """One row: the revision, which every change raises. Its lock puts the changes of all servers in one order."""

    __tablename__ = "registry"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(Integer)
    last_generation: Mapped[int] = mapped_column(BigInteger)  # any server's, so that no number comes back


class Specialist(Base):
    """One specialist an operator has said something about."""

    __tablename__ = "specialists"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[str] = mapped_column(String(16))
    location: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(String(64))
    intent: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    examples: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    pinned: Mapped[bool] = mapped_column(Boolean)
    routable: Mapped[bool] = mapped_column(Boolean)
    allow_base_mismatch: Mapped[bool] = mapped_column(Boolean)
    unloaded: Mapped[bool] = mapped_column(Boolean)
    revision: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    def to_record(self) -> SpecialistRecord:
        return SpecialistRecord(
            name=self.name,
            source=Source(self.source),
            location=self.location,
            sha256=self.sha256,
            intent=self.intent,
            description=self.description,
            examples=None if self.examples is None else tuple(self.examples),
            pinned=self.pinned,
            routable=self.routable,
            allow_base_mismatch=self.allow_base_mismatch,
            unloaded=self.unloaded,
            revision=self.revision,
        )
