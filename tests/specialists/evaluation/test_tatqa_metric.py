"""The metric against values that the public script gives, and the form in which answers are written."""

import pytest

from specialists.evaluation.tatqa_metric import (
    ScaledAnswer,
    format_answer,
    is_number,
    parse_answer,
    score_answer,
    to_number,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,496.5", 1496.5),
        ("$1,496.5", 1496.5),
        ("(16.6)", -16.6),
        ("-3", -3.0),
        ("12%", 0.12),
        ("$0.5 million", 500_000.0),
        ("3 thousand", 3000.0),
        ("12.5 percent", 0.125),
    ],
)
def test_numbers_are_read_with_sign_and_scale(text: str, value: float):
    assert is_number(text)
    assert to_number(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "2019, 2018", "the 3 of them", "3 segments", "nan", "EUR 5", "--"])
def test_what_is_no_number(text: str):
    assert not is_number(text)


@pytest.mark.parametrize(
    ("predicted", "gold", "is_computed", "exact", "f1"),
    [
        (("17.7", "percent"), ("17.7", "percent"), True, True, 1.0),
        (("17.7%", ""), ("17.7", "percent"), True, True, 1.0),
        (("0.177", ""), ("17.7", "percent"), True, True, 1.0),
        (("17.7", ""), ("17.7", "percent"), True, False, 0.0),
        (("17.71", "percent"), ("17.7", "percent"), True, False, 0.0),
        (("17.704", "percent"), ("17.7", "percent"), True, True, 1.0),
        (("11.4", "million"), ("11.4", "million"), True, True, 1.0),
        (("11.4", "thousand"), ("11.4", "million"), True, False, 0.0),
        (("11,400,000", ""), ("11.4", "million"), True, True, 1.0),
        (("$0.5", "million"), ("$0.5 million", ""), False, True, 1.0),
        (("1,568.6", ""), ("1568.6", ""), False, True, 1.0),
        (("the modified retrospective method", ""), ("modified retrospective method", ""), False, True, 1.0),
        (("modified method", ""), ("the modified retrospective method", ""), False, False, 0.8),
        (("3", ""), ("3", ""), True, True, 1.0),
        (("(9.03)", "percent"), ("-9.03", "percent"), True, True, 1.0),
    ],
)
def test_one_answer(
    predicted: tuple[str, str], gold: tuple[str, str], is_computed: bool, exact: bool, f1: float
):
    score = score_answer(
        ScaledAnswer((predicted[0],), predicted[1]),
        ScaledAnswer((gold[0],), gold[1]),
        is_computed=is_computed,
    )
    assert score == (exact, f1)


def test_several_answers_are_compared_in_any_order():
    gold = ScaledAnswer(("2019", "2018"))
    assert score_answer(ScaledAnswer(("2018", "2019")), gold, is_computed=False) == (True, 1.0)
    assert score_answer(ScaledAnswer(("2018",)), gold, is_computed=False) == (False, 0.67)
    assert score_answer(ScaledAnswer(()), gold, is_computed=False) == (False, 0.0)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("17.7 percent", ScaledAnswer(("17.7",), "percent")),
        ("$11.4 Million", ScaledAnswer(("$11.4",), "million")),
        ("19,911 thousand; 15,916 thousand", ScaledAnswer(("19,911", "15,916"), "thousand")),
        ("19,911; 15,916 thousand", ScaledAnswer(("19,911", "15,916"), "thousand")),
        ("19,911 (thousands)", ScaledAnswer(("19,911",), "thousand")),
        ("1 million; 2 thousand", ScaledAnswer(("1 million", "2 thousand"))),
        ("2019; 2018", ScaledAnswer(("2019", "2018"))),
        ("a gain of 3 million", ScaledAnswer(("a gain of 3 million",))),
        ("17.7%", ScaledAnswer(("17.7%",))),
        ("", ScaledAnswer(())),
    ],
)
def test_the_written_form(text: str, answer: ScaledAnswer):
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    "answer",
    [
        ScaledAnswer(("17.7",), "percent"),
        ScaledAnswer(("19,911", "15,916"), "thousand"),
        ScaledAnswer(("the modified method",)),
        ScaledAnswer(("$0.5 million",)),
        ScaledAnswer(("-2383",), "thousand"),
    ],
)
def test_a_written_answer_reads_back_as_right(answer: ScaledAnswer):
    assert score_answer(parse_answer(format_answer(answer)), answer, is_computed=True) == (True, 1.0)
