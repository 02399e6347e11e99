"""The session store: bounded, forgetful, thread-safe; and under which key a conversation is found again."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from router.decision import RoutingOptions, SessionState
from router.session import SessionStore, session_keys


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_turn_is_remembered():
    store = SessionStore()
    assert store.get("a") is None
    assert store.get(None) is None
    store.put("a", "math", 1, "x" * 5000)
    turn = store.get("a")
    assert turn is not None
    assert turn.state == SessionState(intent="math", turns=1)
    assert len(turn.topic) == 1000


def test_the_least_recently_used_goes_first():
    store = SessionStore(max_sessions=2)
    store.put("a", "math", 1, "")
    store.put("b", "code", 1, "")
    store.get("a")
    store.put("c", "code", 1, "")
    assert [store.get(key) is not None for key in "abc"] == [True, False, True]
    assert len(store) == 2


def test_a_session_ends_after_its_time():
    clock = Clock()
    store = SessionStore(ttl_seconds=10, clock=clock)
    store.put("a", "math", 1, "")
    clock.now = 10.0
    assert store.get("a") is not None
    clock.now = 10.1
    assert store.get("a") is None
    assert len(store) == 0


@pytest.mark.parametrize("arguments", [{"max_sessions": 0}, {"ttl_seconds": 0.0}])
def test_an_impossible_store_is_refused(arguments: dict[str, Any]):
    with pytest.raises(ValueError, match="must be positive"):
        SessionStore(**arguments)


def test_threads_never_see_a_broken_store():
    store = SessionStore(max_sessions=8)

    def work(thread: int) -> None:
        for number in range(500):
            key = str((thread * 7 + number) % 20)
            store.put(key, "math", number, key)
            turn = store.get(key)
            assert turn is None or turn.topic == key

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(store) <= 8


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


BOT = {"role": "assistant", "content": "any answer"}
PLAIN = RoutingOptions()


def test_a_history_is_found_by_its_fingerprint():
    first = session_keys([_user("a")], PLAIN)
    second = session_keys([_user("a"), BOT, _user("b")], PLAIN)
    third = session_keys([_user("a"), BOT, _user("b"), {**BOT, "content": "x"}, _user("c")], PLAIN)
    assert first.found_under is None
    assert second.found_under == first.kept_under
    assert third.found_under == second.kept_under
    other = session_keys([_user("z"), BOT, _user("b")], PLAIN)
    assert other.found_under not in {first.kept_under, second.kept_under}
    system = {"role": "system", "content": "be brief"}
    assert session_keys([system, _user("a"), BOT, _user("b")], PLAIN).found_under != second.found_under
    # Two messages are not one that holds both.
    assert session_keys([_user("ab")], PLAIN) != session_keys([_user("a"), _user("b")], PLAIN)


def test_a_named_session_needs_no_history():
    options = RoutingOptions(session="s", user="u")
    keys = session_keys([_user("a")], options)
    assert keys.found_under == keys.kept_under
    assert keys != session_keys([_user("a")], RoutingOptions(session="t"))


def test_a_user_goes_on_only_with_a_history():
    options = RoutingOptions(user="u")
    first = session_keys([_user("a")], options)
    second = session_keys([_user("a"), BOT, _user("b")], options)
    assert first.found_under is None
    assert second.found_under == first.kept_under
    # A user is no session of the same name.
    assert session_keys([_user("a")], RoutingOptions(session="u")).kept_under != first.kept_under


@pytest.mark.parametrize(
    "messages",
    [[], [{}], [{"role": "user"}], [{"role": "user", "content": "\ud800"}], [{"role": None, "content": 3}]],
)
def test_any_messages_have_a_key(messages: list[dict[str, Any]]):
    assert session_keys(messages, PLAIN).kept_under
