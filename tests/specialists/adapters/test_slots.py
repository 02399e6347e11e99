"""Slots: idle adapters give way in order of use, busy ones never."""

import pytest

from specialists.adapters.slots import SlotTable


def test_an_adapter_keeps_its_slot_after_its_last_request():
    slots = SlotTable(2)
    assert slots.acquire(5) == (0, True)
    slots.release(5)
    assert slots.acquire(5) == (0, False)


def test_least_recently_used_idle_adapter_gives_way():
    slots = SlotTable(2)
    for adapter_id in (1, 2):
        slots.acquire(adapter_id)
        slots.release(adapter_id)
    slots.acquire(1)
    slots.release(1)
    assert slots.acquire(3) == (1, True)
    assert slots.acquire(1) == (0, False)


def test_busy_adapters_are_never_displaced():
    slots = SlotTable(1)
    slots.acquire(1)
    slots.acquire(1)
    slots.release(1)
    assert not slots.can_acquire(2)
    slots.release(1)
    assert slots.can_acquire(2)
    slots.check_integrity([])


def test_releasing_too_often_is_noticed():
    slots = SlotTable(1)
    slots.acquire(1)
    slots.release(1)
    with pytest.raises(AssertionError, match="more often"):
        slots.release(1)


def test_a_removed_adapter_leaves_an_empty_slot():
    slots = SlotTable(2)
    slots.acquire(1)
    with pytest.raises(AssertionError, match="in use"):
        slots.remove(1)
    slots.release(1)
    assert slots.adapters() == [1]
    assert slots.remove(1) == 0
    assert slots.remove(1) is None
    assert slots.adapters() == []
    slots.check_integrity([])
    assert slots.acquire(2) == (0, True)
