"""Lays an item out as a message: with or without its options, its context, and text around it.

Every layout (layouts.toml) is shared by all intents, so that "(A)", "Question:" or "the following" says
nothing about the intent.
"""

import random
import string
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from router.item import Item

_SEPARATORS = ("\n", "\n", "\n", " ", ", ", "; ", "\n\n")


@dataclass(frozen=True, slots=True)
class Layout:
    """How often the parts of an item are shown or the message is wrapped; probabilities in [0, 1]."""

    options: float = 0.8
    context: float = 0.75
    wrapping: float = 0.28
    option_words: float = 0.4
    filler: float = 0.2
    order: float = 0.15


PLAIN = Layout(options=0.7, context=1.0, wrapping=0.0, option_words=0.0, filler=0.0, order=0.0)


@cache
def _forms() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("layouts.toml").read_text(encoding="utf-8"))


def render(item: Item, layout: Layout, rng: random.Random) -> str:
    """One message for the item. The same `rng` state gives the same message."""
    if item.verbatim:
        return item.text
    text = item.text
    if item.options and rng.random() < layout.options:
        text = _with_options(text, item.options, layout, rng)
    if item.context and rng.random() < layout.context:
        form = rng.choice(_forms()["context_first" if rng.random() < 0.45 else "context_last"])
        # Replaced, not formatted: the question and the context may hold braces of their own.
        before, _, after = form.partition("{c}")
        text = before.replace("{q}", text) + item.context + after.replace("{q}", text)
    # Drawn only where wanted: held-out prompts stay the same.
    if layout.order and rng.random() < layout.order:
        text += rng.choice(("\n\n", "\n", " ")) + rng.choice(_forms()["orders"])
    if rng.random() < layout.wrapping:
        text = rng.choice(_forms()["wrappings"]).replace("{}", text)
    if rng.random() < layout.filler:
        text = _with_filler(text, rng)
    return text


def _with_filler(text: str, rng: random.Random) -> str:
    """Sentences that ask nothing, before or after what is asked."""
    sentences = " ".join(rng.sample(_forms()["fillers"], rng.randint(1, 4)))
    between = rng.choice((" ", "\n", "\n\n"))
    return f"{sentences}{between}{text}" if rng.random() < 0.6 else f"{text}{between}{sentences}"


def follow_up(intent: str, rng: random.Random, is_seen: bool = True) -> str:
    """A second turn of an intent that says nothing without the first; if not `is_seen`, one that is never trained on."""
    by_intent: dict[str, list[str]] = _forms()["follow_ups" if is_seen else "unseen_follow_ups"]
    # In Spanish a follow-up is Spanish too: an English one would be a change of language.
    shared = [] if intent == "spanish" else by_intent["any"]
    return rng.choice([*by_intent.get(intent, []), *shared])


def _with_options(text: str, options: tuple[str, ...], layout: Layout, rng: random.Random) -> str:
    if len(options) == 2 and rng.random() < 0.15:
        return f"{text} {options[0]} or {options[1]}?"
    forms = _forms()
    label = rng.choice(forms["labels" if rng.random() < 0.75 else "named_labels"])
    separator = rng.choice(_SEPARATORS)
    shown = separator.join(_label(label, i) + option for i, option in enumerate(options))
    header, ending = rng.choice(forms["option_headers"]), ""
    if rng.random() < layout.option_words:
        text = rng.choice(forms["option_questions"]).replace("{}", text)
        ending = rng.choice(forms["option_endings"])
    between = "\n\n" if rng.random() < 0.3 else "\n" if "\n" in separator else " "
    return f"{text}{between}{header + between if header else ''}{shown}{ending}"


def _label(form: str, index: int) -> str:
    letters = string.ascii_uppercase
    return form.format(L=letters[index % 26], l=letters[index % 26].lower(), n=index + 1)
