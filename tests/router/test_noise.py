"""Perturbations are seeded and never leave nothing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.noise import PERTURBATIONS, add_typos, perturb


@given(st.text(min_size=1, max_size=60), st.integers())
def test_a_perturbed_text_is_not_empty_and_the_seed_decides(text: str, seed: int):
    changed = perturb(text, random.Random(seed))
    assert changed
    assert changed == perturb(text, random.Random(seed))


def test_typos_come_at_their_rate():
    text = "the quick brown fox jumps over the lazy dog " * 50
    assert add_typos(text, 0.0, random.Random(0)) == text
    assert add_typos(text, 0.05, random.Random(0)) != text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("lower", "Who Is It?", {"who is it?", "who is it"}),
        ("upper", "who?", {"WHO?"}),
        ("no_punctuation", "¿Quién es?", {"Quién es"}),
        ("one_line", "a\n\n b", {"a b"}),
        ("unaccented", "¿Cuál años?", {"Cual anos?"}),
    ],
)
def test_perturbation(name: str, text: str, expected: set[str]):
    assert {PERTURBATIONS[name](text, random.Random(n)) for n in range(20)} <= expected
