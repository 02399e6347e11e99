"""The grader by tables: what is read out of an answer, what counts as the asked form."""

from fractions import Fraction

import pytest

from specialists.evaluation.number_answer import (
    end_with_answer,
    extract_answer,
    find_numbers,
    format_number,
    is_well_formed,
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("no number at all", []),
        ("He has 3.", [3]),
        ("1,234.50 and 10,000,000", ["1234.5", 10000000]),
        ("1, 2,3", [1, 2, 3]),
        ("$80{,}000 or \\$80,000", [80000, 80000]),
        ("$5, €6, £7.25, 20%, 12kg", [5, 6, "7.25", 20, 12]),
        ("-3, so -$5, $-6 and (-4)", [-3, -5, -6, -4]),
        ("\u22127", [-7]),
        ("5-3 = 2, 20 - 5, 3 - -4", [5, 3, 2, 20, 5, 3, -4]),
        ("- 5 apples", [5]),
        ("x-2", [2]),
        (".5 and 0.25", ["0.5", "0.25"]),
        ("1/2, 3/4. 1 1/2 cups", ["1/2", "3/4", "3/2"]),
        ("\\frac{1}{2} and \\dfrac{3}{4}", ["1/2", "3/4"]),
        ("16/0", []),
        ("2:30", [2, 30]),
    ],
)
def test_numbers_of_a_text(text: str, numbers: list[int | str]) -> None:
    assert find_numbers(text) == [Fraction(number) for number in numbers]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", None),
        ("I do not know.", None),
        ("16 - 7 = 9, and 9 * 2 = 18\n#### 18", 18),
        ("#### 17\nno, wait\n#### 18", 18),
        ("#### 3 * 6 = 18", 18),
        ("#### $1,800.00 in total", 1800),
        ("#### 18 dollars for 2 days", 18),
        ("#### Answer\n\nSo it is 18.", 18),
        ("\\boxed{17} is wrong, so \\(\\boxed{18}\\) dollars in 5 days", 18),
        ("\\boxed{\\frac{1}{2}}", "1/2"),
        ("\\boxed{x = 18\\text{ eggs}}", 18),
        ("The answer is $1,234.50. That took 3 steps.", "1234.5"),
        ("**Final Answer:** 12 apples, of 40", 12),
        ("the answer is: -9", -9),
        ("#### 18\nThe answer is 20.", 18),
        ("She sells 9 eggs.\nShe earns $18", 18),
        ("18\nThe answer is unknown", 18),
    ],
)
def test_the_answer_a_text_states(text: str, answer: int | str | None) -> None:
    assert extract_answer(text) == (None if answer is None else Fraction(answer))


@pytest.mark.parametrize("line", ["#### 18", "#### -3", "#### 1,234", "#### 2.50", "steps\n#### 18\n"])
def test_well_formed(line: str) -> None:
    assert is_well_formed(line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "18",
        "####18",
        "#### $18",
        "#### 18 eggs",
        "#### 18.",
        "#### 18\nmore",
        "### 18",
        "x #### 18",
        "#### 1,2",
    ],
)
def test_not_well_formed(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [("18", "18"), ("-5/2", "-2.5"), ("1/3", "1/3"), ("7/4", "1.75"), ("1000000", "1000000")],
)
def test_numbers_are_written_as_people_do(value: str, text: str) -> None:
    assert format_number(Fraction(value)) == text


def test_a_right_answer_is_rewritten_to_the_asked_form() -> None:
    text = "First 16 - 7 = 9.\nThen 9 * 2 = 18.\n\n**Final Answer:**\n#### $18.00 dollars\nThanks!"
    rewritten = end_with_answer(text, Fraction(18))
    assert rewritten == "First 16 - 7 = 9.\nThen 9 * 2 = 18.\n#### 18"
    assert is_well_formed(rewritten)
    assert (
        end_with_answer("So it is \\(\\boxed{18}\\).", Fraction(18)) == "So it is \\(\\boxed{18}\\).\n#### 18"
    )


@pytest.mark.parametrize("text", ["#### 18", "The answer:\n#### 18", ""])
def test_an_answer_without_reasoning_cannot_be_an_example(text: str) -> None:
    assert end_with_answer(text, Fraction(18)) is None
