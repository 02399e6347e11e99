"""What the server asks of whoever decides intents when a specialist comes or goes.

Routing is by intent, so a specialist is routable when the delegator knows its intent.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from router.errors import DelegatorError


class IntentRegistrar(Protocol):
    """Learns and forgets intents. Methods may block; they are called on the roster's thread, one at a time."""

    def knows(self, intent: str, /) -> bool:
        """Whether prompts can be routed to this intent now."""

    def add(self, intent: str, description: str, examples: Sequence[str], /) -> str | None:
        """Learn an intent, or one that was learned anew from these examples; None when it is known from now on, else a
        sentence that says why it is not.
        """

    def remove(self, intent: str, /) -> None:
        """Forget an intent that was learned and that no specialist serves any more."""


class AddedIntent(Protocol):
    """What came of adding an intent; `router.added.AddedIntent` is one."""

    @property
    def accepted(self) -> bool: ...
    @property
    def message(self) -> str: ...


class LearningDelegator(Protocol):
    """What is asked of the delegator; `router.delegator.Delegator` is one."""

    @property
    def intents(self) -> Collection[str]: ...
    def add_intent(self, name: str, description: str, examples: Sequence[str], /) -> AddedIntent: ...
    def remove_intent(self, name: str, /) -> bool: ...


class LearnedIntents:
    """The intents of a delegator that learns new ones from examples while it serves."""

    def __init__(self, delegator: LearningDelegator) -> None:
        self._delegator = delegator
        self._trained = frozenset(delegator.intents)

    def knows(self, intent: str, /) -> bool:
        return intent in self._delegator.intents

    def add(self, intent: str, description: str, examples: Sequence[str], /) -> str | None:
        if intent in self._trained or (self.knows(intent) and not examples):
            return None
        if not examples:
            known = ", ".join(sorted(self._delegator.intents))
            return f"the delegator does not know the intent {intent!r} and has no examples of it; it knows {known}"
        try:
            added = self._delegator.add_intent(intent, description, examples)
        except DelegatorError as error:
            return str(error)
        return None if added.accepted else added.message

    def remove(self, intent: str, /) -> None:
        self._delegator.remove_intent(intent)
