"""Opens the database: which one, how durable, and brought to this version's schema.

By default a SQLite file in the state folder; by URL a PostgreSQL that several servers share. A commit is on the disk when it
returns, with either.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from server.store.errors import StoreError

FILE = "specialists.sqlite3"
_BUSY_MS = 10_000  # how long a process waits for another's SQLite transaction
_CONNECT_SECONDS = 10
_MIGRATION_LOCK = 7_036_874_417  # any number that is only ours
_MIGRATIONS = Path(__file__).with_name("migrations")


def open_database(url: str | None, state: Path) -> Engine:
    """The migrated database at `url`, or the file in `state`. Raises StoreError."""
    engine = _sqlite(state / FILE) if url is None else _postgresql(url)
    try:
        with _alone_on(state):
            _migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        engine.dispose()
        raise StoreError(f"cannot open the database {shown(engine)}: {reason(error)}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def shown(engine: Engine) -> str:
    """The database's address without its password."""
    return engine.url.render_as_string(hide_password=True)


def reason(error: Exception) -> str:
    """What a driver says, in one line."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())


def _sqlite(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"timeout": _BUSY_MS / 1000}
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late: after the first read
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # with WAL the default may lose the last commit

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(address: str) -> Engine:
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise StoreError(
            "database_url is no URL; expected one like postgresql://user:password@host/name"
        ) from error
    if url.get_backend_name() != "postgresql":
        raise StoreError(f"database_url begins with {url.drivername}, expected postgresql")
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,  # a connection the server has closed meanwhile is opened anew
        pool_size=2,
        connect_args={"connect_timeout": _CONNECT_SECONDS},
    )


@contextmanager
def _alone_on(state: Path) -> Iterator[None]:
    """One process at a time brings a SQLite file to its schema; a process that dies lets go."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "migrate.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(
                f"the database {shown(engine)} was written by a newer version of Polymath: {error}"
            ) from error
