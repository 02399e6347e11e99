"""The same question is found again whatever its dress; another question is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.leakage import LeakageIndex, fingerprint, normalize

QUESTION = "Natalia sold clips to forty eight of her friends in April and then she sold half as many clips in May, how many?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  What IS\nthis?! ", "what is this"),
        ("¿Cuál?", "cual"),
        ("a_b-c", "a b c"),
        ("...", ""),
        ("x=5", "x 5"),
    ],
)
def test_normalize(text: str, expected: str):
    assert normalize(text) == expected


@given(st.text())
def test_normalizing_twice_is_normalizing_once(text: str):
    assert normalize(normalize(text)) == normalize(text)


@pytest.mark.parametrize(
    "text",
    [QUESTION, QUESTION.upper(), f"Question: {QUESTION}\nAnswer:", QUESTION.replace(" ", "  ").rstrip("?")],
)
def test_a_leak_is_found(text: str):
    assert LeakageIndex([QUESTION]).leaks(text)


@pytest.mark.parametrize(
    "text",
    ["", "How many clips did she sell?", QUESTION.replace("clips", "books").replace("April", "June")[:60]],
)
def test_another_question_is_no_leak(text: str):
    assert not LeakageIndex([QUESTION]).leaks(text)


def test_a_short_question_leaks_only_when_equal():
    index = LeakageIndex(["Who wrote Hamlet?"])
    assert index.leaks("who wrote hamlet")
    assert not index.leaks("Who wrote Hamlet and Macbeth?")


def test_fingerprints_are_stable():
    assert (
        fingerprint("Who wrote Hamlet?")
        == fingerprint("who wrote hamlet")
        != fingerprint("who wrote macbeth")
    )
