import pytest

from specialists.evaluation.analysis import analyze, confuse_letters
from specialists.evaluation.answer import GradedAnswer
from specialists.evaluation.task import Grade


def answer(
    extracted: str | None,
    expected: str,
    *,
    tokens: int = 1,
    category: str = "",
    detail: str = "",
    **more: object,
) -> GradedAnswer:
    grade = Grade(
        correct=extracted == expected, well_formed=True, extracted=extracted, expected=expected, detail=detail
    )
    return GradedAnswer(
        id="x", text="", num_tokens=tokens, is_cut=False, grade=grade, category=category, **more
    )  # type: ignore[arg-type]


def test_a_favourite_letter_shows():
    answers = [
        *[answer("A", "A")] * 3,
        *[answer("A", "B")] * 4,
        answer("B", "B"),
        answer(None, "C"),
        answer("C", "A"),
    ]
    letters = confuse_letters(answers)
    assert letters["confusion"] == {"A": {"A": 3, "C": 1}, "B": {"A": 4, "B": 1}, "C": {"none": 1}}
    assert letters["share_chosen"] == {"A": 0.7, "B": 0.1, "C": 0.1, "none": 0.1}
    assert letters["share_right"] == {"A": 0.4, "B": 0.5, "C": 0.1}
    assert analyze(answers)["unread"] == 1


def test_worst_categories_first_and_small_ones_left_out():
    answers = [*[answer("2", "2", category="easy")] * 6, *[answer("1", "2", category="hard")] * 6,
               *[answer("1", "2", category="rare")] * 2]  # fmt: skip
    found = analyze(answers)
    assert [(row["category"], row["score"]) for row in found["categories"]] == [("hard", 0.0), ("easy", 1.0)]
    assert "letters" not in found


def test_lengths_of_right_and_wrong_answers():
    found = analyze([answer("2", "2", tokens=3), answer("2", "2", tokens=5), answer("1", "2", tokens=100)])
    assert found["length"]["mean_tokens_right"] == pytest.approx(4)
    assert found["length"]["mean_tokens_wrong"] == pytest.approx(100)
    assert (found["length"]["score_shorter_half"], found["length"]["score_longer_half"]) == (1.0, 0.5)


def test_exceptions_and_who_answered():
    found = analyze(
        [answer("1", "2", detail="AssertionError: x", specialist="math"), answer("2", "2", specialist="base")]
    )
    assert found["details"] == {"AssertionError": 1}
    assert found["specialists"] == {"math": 1, "base": 1}
