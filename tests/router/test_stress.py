"""Every change keeps a prompt a prompt, differs from the others, and is the same for the same seed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.item import Prompt
from router.stress import STRESSES, stressed

TEXT = "¿Qué? What is the capital of Spain? I have been there. How many people live in it?"
PROMPTS = [Prompt(text=TEXT, intent="knowledge", source="s", history="h")] * 8


@pytest.mark.parametrize("name", STRESSES)
def test_a_change_changes_and_keeps_the_rest(name: str):
    changed = stressed(PROMPTS, name, seed=1)
    assert changed == stressed(PROMPTS, name, seed=1)
    assert any(prompt.text != TEXT for prompt in changed) or name == "one line"
    assert {(p.intent, p.source, p.history) for p in changed} == {("knowledge", "s", "h")}


@given(st.text(max_size=200), st.sampled_from(list(STRESSES)), st.integers())
def test_any_text_can_be_changed(text: str, name: str, seed: int):
    assert isinstance(STRESSES[name](text, random.Random(seed)), str)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is 2+2?", "what's 2+2?"),
        ("How many are left", "what number of are left"),
        ("Sort this", "Sort this"),  # no rule fits
    ],
)
def test_a_paraphrase_follows_its_rules(text: str, expected: str):
    assert STRESSES["paraphrase"](text, random.Random(0)) == expected


def test_shorter_leaves_a_question():
    assert STRESSES["shorter"]("One. Two. Three?", random.Random(0)) == "Two. Three?"
    assert STRESSES["shorter"]("One. Two?", random.Random(0)) == "One. Two?"
