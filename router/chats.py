"""Conversations of several turns, made from the sources, and what routing makes of them.

Each begins in a specialist's domain, goes on about it, and some then change the subject. Fitting takes training sources
and their follow-ups; measuring takes held-out sources and follow-ups that are never trained on.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from router.dataset import Corpus
from router.decision import RoutingDecision, RoutingOptions
from router.delegator import Delegator
from router.intents import GENERAL, INTENTS
from router.item import Role
from router.rendering import PLAIN, follow_up, render

_CHANGES = 0.6  # share of the conversations that change the subject
_SWITCHES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98)


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One user message; `intent` is where it belongs, `is_new` says that its subject is not the one before."""

    text: str
    intent: str
    is_new: bool


Chat = tuple[ChatTurn, ...]
# The messages up to a turn, and the store's owner, to the decision on the turn.
Route = Callable[[Sequence[dict[str, Any]]], RoutingDecision]


def build_chats(corpus: Corpus, role: Role, count: int, seed: int) -> list[Chat]:
    """`count` conversations from the sources of `role`, the same for the same seed."""
    rng = random.Random(f"chats {seed} {role}")
    by_intent = {
        intent: [s.name for s in corpus.of_role(role) if s.intent == intent and corpus.items[s.name]]
        for intent in INTENTS
    }
    intents = [intent for intent in INTENTS if by_intent[intent]]
    specialists = [intent for intent in intents if intent != GENERAL]

    def new(intent: str) -> ChatTurn:
        item = rng.choice(corpus.items[rng.choice(by_intent[intent])])
        return ChatTurn(render(item, PLAIN, rng), intent, True)

    def on(intent: str) -> list[ChatTurn]:
        is_seen = role is Role.TRAIN
        return [ChatTurn(follow_up(intent, rng, is_seen), intent, False) for _ in range(rng.randint(1, 2))]

    chats = []
    for number in range(count):
        first = specialists[number % len(specialists)]
        turns = [new(first), *on(first)]
        if rng.random() < _CHANGES:
            second = rng.choice([intent for intent in intents if intent != first])
            turns += [new(second), *([] if second == GENERAL else on(second))]
        chats.append(tuple(turns))
    return chats


def measure_chats(chats: Sequence[Chat], delegator: Delegator) -> dict[str, dict[str, float]]:
    """Three ways of routing beside each other: the last message alone, with the one before it, with a session."""
    forgetful = RoutingOptions(remember=False)
    ways: dict[str, Route] = {
        "stateless": lambda messages: delegator.route(messages[-1:], forgetful),
        "context": lambda messages: delegator.route(messages, forgetful),
        "session": delegator.route,
    }
    return {name: _measure(chats, route) for name, route in ways.items()}


def _measure(chats: Sequence[Chat], route: Route) -> dict[str, float]:
    """Of follow-ups to a rightly routed turn, the share that bounces away; of new subjects, the share that is followed."""
    bounced, followed, all_right = [], [], []
    for chat in chats:
        messages: list[dict[str, Any]] = []
        was_right = False
        for turn in chat:
            messages.append({"role": "user", "content": turn.text})
            decision = route(messages)
            got = decision.intent if decision.accepted else GENERAL
            is_right = got == turn.intent
            if len(messages) > 1 and turn.is_new:
                followed.append(is_right)
            elif not turn.is_new and was_right:
                bounced.append(not is_right)
            all_right.append(is_right)
            was_right = is_right
            messages.append({"role": "assistant", "content": "Here is what I found."})
    return {
        "turns": len(all_right),
        "bounce_rate": _share(bounced),
        "switch_when_due": _share(followed),
        "accuracy": _share(all_right),
    }


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def fit_switch(
    chats: Sequence[Chat], with_policy: Callable[[float], Delegator]
) -> tuple[float, dict[str, Any]]:
    """The `switch` of the policy at which most turns of the chats are right, and all that were tried."""
    tried: dict[str, Any] = {}
    best, best_accuracy = _SWITCHES[0], -1.0
    for switch in _SWITCHES:
        measured = _measure(chats, with_policy(switch).route)
        tried[str(switch)] = measured
        if measured["accuracy"] > best_accuracy:
            best, best_accuracy = switch, measured["accuracy"]
    return best, tried
