"""What the server asks of whoever decides intents when a specialist comes or goes.

Routing is by intent, so a specialist is routable when the delegator knows its intent. `FixedIntents` stands for a delegator
that cannot learn; one that can implements the same protocol.
"""

from collections.abc import Collection, Sequence
from typing import Protocol


class IntentRegistrar(Protocol):
    """Learns and forgets intents. Methods may block; they are called on the roster's thread, one at a time."""

    def knows(self, intent: str, /) -> bool:
        """Whether prompts can be routed to this intent now."""

    def add(self, intent: str, description: str, examples: Sequence[str], /) -> str | None:
        """Learn an intent; None when it is known from now on, else a sentence that says why it is not."""

    def remove(self, intent: str, /) -> None:
        """Forget an intent that was learned and that no specialist serves any more."""


class FixedIntents:
    """The intents a delegator was trained for, and no others."""

    def __init__(self, intents: Collection[str]) -> None:
        self._intents = frozenset(intents)

    def knows(self, intent: str, /) -> bool:
        return intent in self._intents

    def add(self, intent: str, description: str, examples: Sequence[str], /) -> str | None:
        if intent in self._intents:
            return None
        known = ", ".join(sorted(self._intents))
        return f"the delegator does not know the intent {intent!r}; it knows {known}"

    def remove(self, intent: str, /) -> None:
        """Nothing was learned."""
