"""Which database is opened, and how it reads when it cannot be."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from server.errors import is_for_people
from server.store.database import FILE, open_database, shown
from server.store.errors import StoreError
from server.store.specialists import SpecialistStore
from server.store.tables import Base


def test_the_migrations_make_what_the_code_expects(tmp_path: Path):
    engine = open_database(None, tmp_path)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


@pytest.mark.slow
def test_the_migrations_make_what_the_code_expects_on_postgresql(tmp_path: Path, empty_postgres: str):
    engine = open_database(empty_postgres, tmp_path)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_a_commit_survives_the_loss_of_power(tmp_path: Path):
    engine = open_database(None, tmp_path)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
    engine.dispose()


def test_a_database_of_a_newer_version(tmp_path: Path):
    SpecialistStore.open(None, tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="written by a newer version"):
        SpecialistStore.open(None, tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "no URL"),
        ("mysql://host/name", "begins with mysql, expected postgresql"),
        ("postgresql://me:secret@127.0.0.1:1/name", "cannot open the database"),
    ],
)
def test_an_unusable_url(tmp_path: Path, url: str, message: str):
    with pytest.raises(StoreError, match=message) as caught:
        SpecialistStore.open(url, tmp_path)
    assert is_for_people(caught.value)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_file(tmp_path: Path):
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="cannot open the database"):
        SpecialistStore.open(None, tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open the database"):
        SpecialistStore.open(None, tmp_path / "file" / "state")


def test_a_database_that_goes_away_is_said_so(tmp_path: Path):
    store = SpecialistStore.open(None, tmp_path)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("DROP TABLE registry")
    connection.close()
    with pytest.raises(StoreError, match="cannot be used: no such table"):
        store.revision()
    store.close()


def test_a_password_is_never_shown(tmp_path: Path):
    engine = open_database(None, tmp_path)
    assert shown(engine).startswith("sqlite:///")
    engine.dispose()
