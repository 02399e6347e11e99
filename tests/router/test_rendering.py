"""Layouts show what they should and lose nothing."""

import random
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import router.rendering
from router.intents import INTENTS
from router.item import Item
from router.rendering import PLAIN, Layout, follow_up, render
from specialists.evaluation.tasks import convfinqa, tatqa

ALL_SHOWN = Layout(options=1.0, context=1.0, wrapping=1.0, option_words=1.0, order=1.0)
TEXTS = st.text(min_size=1, max_size=40)


@given(TEXTS, st.lists(TEXTS, max_size=6).map(tuple), TEXTS, st.integers())
def test_every_part_is_in_the_message(text: str, options: tuple[str, ...], context: str, seed: int):
    message = render(Item(text=text, options=options, context=context), ALL_SHOWN, random.Random(seed))
    assert text in message and context in message
    assert all(option in message for option in options)


@given(TEXTS, st.integers())
def test_the_seed_decides(text: str, seed: int):
    item = Item(text=text, options=("a", "b", "c"), context="d")
    layout = Layout()
    assert render(item, layout, random.Random(seed)) == render(item, layout, random.Random(seed))


def test_a_verbatim_text_is_left_alone():
    code = Item(text="def f(x):\n    ", options=("a",), context="c", verbatim=True)
    assert render(code, ALL_SHOWN, random.Random(0)) == code.text


def test_a_plain_layout_wraps_nothing():
    assert all(render(Item(text="2+2?"), PLAIN, random.Random(n)) == "2+2?" for n in range(50))


def test_braces_are_text():
    item = Item(text="{q} {} {0}", context="{c} {q}")
    message = render(item, ALL_SHOWN, random.Random(1))
    assert "{q} {} {0}" in message and "{c} {q}" in message


def test_every_intent_has_follow_ups_and_spanish_ones_are_spanish():
    assert all(follow_up(intent, random.Random(0)) for intent in INTENTS)
    shared = _layouts()["follow_ups"]["any"]
    assert not {follow_up("spanish", random.Random(n)) for n in range(200)} & set(shared)


def test_what_is_measured_with_is_never_trained_on():
    for intent in INTENTS:
        seen = {follow_up(intent, random.Random(n)) for n in range(300)}
        unseen = {follow_up(intent, random.Random(n), is_seen=False) for n in range(300)}
        assert not seen & unseen


def test_an_order_stands_after_everything_else():
    orders = _layouts()["orders"]
    item = Item(text="What was it?", options=("a", "b"), context="1 | 2")
    layout = Layout(wrapping=0.0, filler=0.0, order=1.0)
    messages = [render(item, layout, random.Random(n)) for n in range(200)]
    assert all(message.endswith(tuple(orders)) and "What was it?" in message for message in messages)
    assert {order for order in orders if any(message.endswith(order) for message in messages)} == set(orders)


def test_the_order_of_an_evaluation_task_is_never_trained_on():
    assert not {tatqa.INSTRUCTION, convfinqa.INSTRUCTION} & set(_layouts()["orders"])


def _layouts() -> dict[str, Any]:
    return tomllib.loads(
        Path(router.rendering.__file__).with_name("layouts.toml").read_text(encoding="utf-8")
    )
