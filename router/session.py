"""Remembers which intent a conversation has: bounded, forgetful, safe to use from any thread. No model.

A conversation is known by the name its client gave it, or by the fingerprint of what was said before the last message:
a client that sends the whole history each time needs to do nothing.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.decision import RoutingOptions, SessionState
from router.messages import message_text

MAX_SESSIONS = 10_000
TTL_SECONDS = 3600.0
_READ_ROLES = frozenset({"system", "developer", "user"})
_KEPT_CHARS = 1000  # of a topic


@dataclass(frozen=True, slots=True)
class Turn:
    """What is remembered of a conversation: its state after the turn, and the user text that set its topic (the head).

    The topic is what later turns are read in the context of: after "why?" and "go on" it still says what is talked about.
    """

    state: SessionState
    topic: str


class SessionStore:
    """The last turn of each conversation, at most `max_sessions`, each for `ttl_seconds` after its last use.

    The least recently used goes first. `clock` gives seconds.
    """

    def __init__(
        self,
        max_sessions: int = MAX_SESSIONS,
        ttl_seconds: float = TTL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_sessions < 1 or ttl_seconds <= 0:
            raise ValueError(
                f"max_sessions is {max_sessions} and ttl_seconds {ttl_seconds}; both must be positive"
            )
        self._max_sessions = max_sessions
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._turns: OrderedDict[str, tuple[float, Turn]] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return len(self._turns)

    def get(self, key: str | None) -> Turn | None:
        """The last turn of a conversation; None when it is unknown or was forgotten."""
        if key is None:
            return None
        with self._lock:
            found = self._turns.get(key)
            if found is None:
                return None
            last_used, turn = found
            if self._clock() - last_used > self._ttl_seconds:
                del self._turns[key]
                return None
            self._turns.move_to_end(key)
            return turn

    def put(self, key: str, intent: str, turns: int, topic: str) -> None:
        """Remember a conversation's turn as its last."""
        turn = Turn(SessionState(intent=intent, turns=turns), topic[:_KEPT_CHARS])
        with self._lock:
            self._turns[key] = (self._clock(), turn)
            self._turns.move_to_end(key)
            while len(self._turns) > self._max_sessions:
                self._turns.popitem(last=False)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Under which key a conversation is looked up, and under which its present turn is remembered."""

    found_under: str | None
    kept_under: str


def session_keys(messages: Sequence[Mapping[str, Any]], options: RoutingOptions) -> SessionKeys:
    """The keys of a conversation whose last user message is being routed.

    A named session is itself. A user's conversation goes on only when the messages hold an earlier turn: one end user
    begins many. Without either, what the user said before the last message is the key.
    """
    said = [
        message for message in messages if isinstance(message, Mapping) and message.get("role") in _READ_ROLES
    ]
    texts = [message_text(message.get("content")) for message in said]
    is_first = sum(message.get("role") == "user" for message in said) < 2
    if options.session is not None:
        key = f"session {options.session}"
        return SessionKeys(key, key)
    if options.user is not None:
        key = f"user {options.user}"
        return SessionKeys(None if is_first else key, key)
    return SessionKeys(None if is_first else _fingerprint(texts[:-1]), _fingerprint(texts))


def _fingerprint(texts: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        content = text.encode("utf-8", "replace")
        digest.update(len(content).to_bytes(8, "little") + content)
    return f"history {digest.hexdigest()}"
