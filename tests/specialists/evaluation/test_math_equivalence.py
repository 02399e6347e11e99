r"""Equivalence by math-verify in its own process, a tower of powers included."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from specialists.evaluation import math_equivalence
from specialists.evaluation.math_equivalence import is_equivalent

pytestmark = pytest.mark.slow  # the child imports sympy


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2}", "0.5"),
        (r"\frac{1}{2}", "1/2"),
        (r"\frac{1}{2}", r"\dfrac{2}{4}"),
        ("204", "204.0"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        ("x^2 + 2x + 1", "(x+1)^2"),
        (r"\{1, 2\}", r"\{2, 1\}"),
        ("1,000", "1000"),
    ],
)
def test_the_same(gold: str, answer: str):
    assert is_equivalent(gold, answer)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [(r"\frac{1}{2}", "0.3"), ("204", "20"), ("(1, 2)", "(2, 1)"), ("3", ""), ("3", "no idea"), ("3", "\\frac{"),
     ("3", "3" * 500)],
)  # fmt: skip
def test_not_the_same(gold: str, answer: str):
    assert not is_equivalent(gold, answer)


def test_an_endless_expression_is_ended_and_the_next_one_compared(monkeypatch: pytest.MonkeyPatch):
    is_equivalent("1", "2/2")  # the child has started
    monkeypatch.setattr(math_equivalence, "TIMEOUT_SECONDS", 1.0)
    assert not is_equivalent("3", "9^{9^{9^{9}}}")
    monkeypatch.undo()
    assert is_equivalent(r"\frac{3}{2}", "1.5")


def test_threads_share_the_process():
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda number: is_equivalent(str(number), f"{2 * number}/2"), range(12))
        assert all(results)
