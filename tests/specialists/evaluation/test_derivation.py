"""Derivations of TAT-QA's kind, taken apart; what cannot be read or does not fit the answer stays as it is."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialists.evaluation.derivation import expand_derivation


@pytest.mark.parametrize(
    ("text", "answer", "steps"),
    [
        ("6 - 41", -35, ["6 - 41 = -35"]),
        (
            "(108,307-93,081)/93,081",
            16.36,
            ["108,307 - 93,081 = 15,226", "15,226 / 93,081 = 0.1636"],
        ),
        ("(53.7-65.6)/65.6 ", -18.14, ["53.7 - 65.6 = -11.9", "-11.9 / 65.6 = -0.1814"]),
        ("-1.9-(-2.2)", 0.3, ["-1.9 - (-2.2) = 0.3"]),
        ("(2.7%+2.0%+1.0%)/3", 1.9, ["2.7 + 2 = 4.7", "4.7 + 1 = 5.7", "5.7 / 3 = 1.9"]),
        ("$750.2 \u2013 $789.7", -39.5, ["750.2 - 789.7 = -39.5"]),
        (
            "[(166+178)/2] - [(57+44)/2]",
            121.5,
            ["166 + 178 = 344", "344 / 2 = 172", "57 + 44 = 101", "101 / 2 = 50.5", "172 - 50.5 = 121.5"],
        ),
        ("126 / 67 - 1", 88.06, ["126 / 67 = 1.8806", "1.8806 - 1 = 0.8806"]),
    ],
)
def test_one_operation_a_line(text: str, answer: float, steps: list[str]) -> None:
    assert expand_derivation(text, answer) == steps


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("total of both years", 3),
        ("19", 19),  # nothing is calculated
        ("3 - 1", 5),  # does not make the answer
        ("1 / 0", 0),
        ("2 ** 9999 ** 9", 1),
        ("__import__('os')", 1),
        ("2018 - 2017 + ", 1),
        ("", 0),
    ],
)
def test_what_is_no_plain_calculation_is_left_alone(text: str, answer: float) -> None:
    assert expand_derivation(text, answer) is None


NUMBERS = st.integers(-10_000_000, 10_000_000).map(lambda number: number / 100)


@given(st.lists(NUMBERS, min_size=2, max_size=5), st.lists(st.sampled_from("+-"), min_size=4, max_size=4))
def test_the_steps_lead_from_one_to_the_next_and_end_with_the_answer(
    numbers: list[float], signs: list[str]
) -> None:
    terms = [str(numbers[0])]
    value = numbers[0]
    for sign, number in zip(signs, numbers[1:], strict=False):
        terms.append(f"{sign} ({number})")
        value = value + number if sign == "+" else value - number
    steps = expand_derivation(" ".join(terms), value)
    assert steps is not None and len(steps) == len(numbers) - 1
    for before, after in pairwise(steps):
        assert after.startswith(before.split(" = ")[1] + " ")
    assert float(steps[-1].split(" = ")[1]) == pytest.approx(value, abs=1e-4)
    assert all(re.fullmatch(r"\S+ [+-] \S+ = \S+", step) for step in steps)
