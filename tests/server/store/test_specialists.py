"""What is written comes back, in one order for all writers, and never over what somebody else wrote meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from server.store.errors import StoreConflictError
from server.store.record import Source, SpecialistRecord
from tests.server.store.conftest import Opener

FULL = SpecialistRecord(
    name="sql",
    source=Source.PATH,
    location="/srv/adapters/sql",
    sha256="a" * 64,
    intent="código",
    description="queries",
    examples=("select 1", "sélect 2"),
    pinned=True,
    routable=False,
    allow_base_mismatch=True,
)


def test_a_new_database_is_empty(open_store: Opener):
    snapshot = open_store().read()
    assert (snapshot.revision, snapshot.last_generation, snapshot.records) == (0, 0, {})


def test_what_is_written_comes_back_after_a_restart(open_store: Opener):
    bare = SpecialistRecord(name="bare", source=Source.CATALOG, unloaded=True)
    store = open_store()
    written = [store.put(FULL, generation=7), store.put(bare)]
    assert [record.revision for record in written] == [1, 2]
    snapshot = open_store().read()
    assert snapshot.records == {record.name: record for record in written}
    assert replace(snapshot.records["sql"], revision=0) == FULL
    assert (snapshot.revision, snapshot.last_generation) == (2, 7)


def test_generations_never_go_back(open_store: Opener):
    store = open_store()
    store.put(FULL, generation=9)
    store.note_generation(4)
    assert store.read().last_generation == 9
    store.note_generation(12)
    assert store.read().last_generation == 12
    assert store.revision() == 1, "noting one is no change that others have to follow"


def test_a_write_over_anothers_is_refused(open_store: Opener):
    here, there = open_store(), open_store()
    first = here.put(FULL)
    with pytest.raises(StoreConflictError, match="found revision 1, expected 0"):
        there.put(FULL)
    second = there.put(replace(first, pinned=False))
    for stale in (first, FULL):
        with pytest.raises(StoreConflictError):
            here.put(stale)
        with pytest.raises(StoreConflictError):
            here.delete(stale)
    assert here.read().records["sql"] == second
    assert here.delete(second) == 3
    with pytest.raises(StoreConflictError):
        there.delete(second)
    assert there.read().records == {}


def test_of_many_writers_at_once_each_change_has_its_own_revision(open_store: Opener):
    stores = [open_store() for _ in range(4)]

    def write(number: int) -> int:
        return stores[number % 4].put(replace(FULL, name=f"s{number}")).revision

    with ThreadPoolExecutor(4) as pool:
        revisions = list(pool.map(write, range(40)))
    assert sorted(revisions) == list(range(1, 41))
    assert len(stores[0].read().records) == 40


def test_of_many_writers_of_one_name_one_wins(open_store: Opener):
    stores = [open_store() for _ in range(4)]

    def write(store: object) -> bool:
        try:
            store.put(FULL)  # type: ignore[attr-defined]
        except StoreConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, stores)) == [False, False, False, True]


def test_several_servers_may_start_at_once(open_store: Opener):
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: open_store(), range(6)))
    assert {store.revision() for store in stores} == {0}
