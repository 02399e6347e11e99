"""Who is in memory: limits hold, and who is in use or pinned stays, whatever happens."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from specialists.adapters.residency import Residency


def filled(*sizes: int, max_count: int = 10, max_bytes: int = 100) -> Residency:
    residency = Residency(max_count, max_bytes)
    for generation, size in enumerate(sizes, start=1):
        residency.add(generation, size)
    return residency


def test_the_least_recently_used_go_first_and_no_more_than_needed():
    residency = filled(40, 40, 20, 50)
    for generation in (1, 2, 3):
        assert residency.admit(generation) == []
    residency.use(1)
    residency.leave(1)
    assert residency.victims_for(4) == [2, 3]
    assert residency.admit(4) == [2, 3]
    assert [residency.is_resident(generation) for generation in (1, 2, 3, 4)] == [True, False, False, True]
    assert residency.num_bytes == 90


def test_counts_limit_as_bytes_do():
    residency = filled(1, 1, 1, max_count=2)
    residency.admit(1)
    residency.admit(2)
    assert residency.admit(3) == [1]


def test_who_is_in_use_or_pinned_is_no_victim():
    residency = filled(50, 50, 60)
    residency.admit(1)
    residency.admit(2)
    residency.use(1)
    residency.pin(2, True)
    assert residency.victims_for(3) is None
    assert not residency.could_ever_fit(3)  # beside the pinned one
    residency.pin(2, False)
    assert residency.victims_for(3) is None and residency.could_ever_fit(3)
    residency.leave(1)
    assert residency.victims_for(3) == [2, 1]


def test_what_is_replaced_goes_first_even_pinned_but_not_in_use():
    residency = filled(50, 50, 50)
    residency.admit(1)
    residency.admit(2)
    residency.pin(2, True)
    assert residency.victims_for(3, leaving=2) == [2]
    residency.use(2)
    assert residency.victims_for(3, leaving=2) == [1]


def test_too_large_never_fits():
    residency = filled(101)
    assert residency.victims_for(1) is None and not residency.could_ever_fit(1)


def test_mistakes_are_noticed():
    residency = filled(1)
    with pytest.raises(AssertionError, match="already known"):
        residency.add(1, 1)
    residency.use(1)
    with pytest.raises(AssertionError, match="in use"):
        residency.remove(1)
    residency.leave(1)
    with pytest.raises(AssertionError, match="more often"):
        residency.leave(1)
    residency.remove(1)
    assert 1 not in residency


class Life(RuleBasedStateMachine):
    """Any history of adapters keeps to the limits; a plain list says what the order of use must be."""

    MAX_COUNT, MAX_BYTES = 4, 20
    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.residency = Residency(self.MAX_COUNT, self.MAX_BYTES)
        self.next = 1
        self.sizes: dict[int, int] = {}
        self.users: dict[int, int] = {}
        self.pinned: set[int] = set()
        self.order: list[int] = []  # in memory, least recently used first

    @rule(target=known, size=st.integers(1, 25))
    def add(self, size: int) -> int:
        self.residency.add(self.next, size)
        self.sizes[self.next], self.users[self.next] = size, 0
        self.next += 1
        return self.next - 1

    @rule(generation=consumes(known))
    def remove(self, generation: int):
        while self.users[generation]:
            self.leave(generation)
        self.residency.remove(generation)
        del self.sizes[generation], self.users[generation]
        self.pinned.discard(generation)
        self.order = [other for other in self.order if other != generation]

    @rule(generation=known)
    def use(self, generation: int):
        self.residency.use(generation)
        self.users[generation] += 1
        self._touched(generation)

    @rule(generation=known)
    def leave(self, generation: int):
        if self.users[generation]:
            self.residency.leave(generation)
            self.users[generation] -= 1
            self._touched(generation)

    @rule(generation=known, pinned=st.booleans())
    def pin(self, generation: int, pinned: bool):
        self.residency.pin(generation, pinned)
        (self.pinned.add if pinned else self.pinned.discard)(generation)

    @rule(generation=known)
    def admit(self, generation: int):
        idle = [g for g in self.order if not self.users[g] and g not in self.pinned and g != generation]
        held = [g for g in self.order if g not in idle and g != generation]
        possible = (
            len(held) < self.MAX_COUNT
            and sum(self.sizes[g] for g in held) + self.sizes[generation] <= self.MAX_BYTES
        )
        victims = self.residency.victims_for(generation)
        assert (victims is not None) == possible
        if victims is None:
            return
        assert victims == idle[: len(victims)]
        if victims:  # one fewer would not have been enough
            kept = [g for g in self.order if g not in victims[:-1]] + [generation]
            assert len(kept) > self.MAX_COUNT or sum(self.sizes[g] for g in kept) > self.MAX_BYTES
        assert self.residency.admit(generation) == victims
        self.order = [g for g in self.order if g not in victims and g != generation] + [generation]

    @invariant()
    def adds_up(self):
        self.residency.check_integrity()
        assert [g for g in self.sizes if self.residency.is_resident(g)] == sorted(self.order)
        assert self.residency.num_pinned_bytes == sum(self.sizes[g] for g in self.order if g in self.pinned)
        assert all(self.residency.num_users(g) == count for g, count in self.users.items())

    def _touched(self, generation: int) -> None:
        if generation in self.order:
            self.order.remove(generation)
            self.order.append(generation)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_history = Life.TestCase
