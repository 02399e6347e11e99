"""Both databases: every test of the store holds on SQLite and on a real PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from server.store.specialists import SpecialistStore
from tests.server.postgres import running_postgres

Opener = Callable[[], SpecialistStore]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    engine = create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same database again and again, as several servers and restarts do."""
    url = None if request.param == "sqlite" else request.getfixturevalue("empty_postgres")
    stores: list[SpecialistStore] = []

    def open_once() -> SpecialistStore:
        stores.append(SpecialistStore.open(url, tmp_path))
        return stores[-1]

    yield open_once
    for store in stores:
        store.close()
