from collections import Counter

import pytest

from specialists.evaluation.choice import ChoiceItem, balance_positions
from specialists.evaluation.tasks.commonsenseqa import CommonsenseQA

ITEM = ChoiceItem("x/0", "Where is it?", ("bank", "library", "mall"), 1)


def items(number: int, size: int) -> list[ChoiceItem]:
    return [ChoiceItem(f"{n}", f"Q{n}", tuple(f"{n} {o}" for o in range(size)), 0) for n in range(number)]


def test_the_question_lists_the_options_and_the_prompt_asks_for_a_letter():
    assert ITEM.question == "Where is it?\n\nA. bank\nB. library\nC. mall"
    (message,) = CommonsenseQA().prompt(ITEM)
    assert message["content"].startswith(ITEM.question) and "letter" in message["content"]


@pytest.mark.parametrize(
    ("text", "correct", "well_formed"),
    [
        ("B", True, True),
        ("B.", True, True),
        (" B\n", True, True),
        ("C", False, True),
        ("(B)", True, False),
        ("B. library", True, False),
        ("The answer is B", True, False),
        ("D", False, False),
        ("", False, False),
        (".", False, False),
        ("AB", False, False),
    ],
)
def test_content_and_form_are_graded_apart(text: str, correct: bool, well_formed: bool):
    grade = CommonsenseQA().grade(ITEM, text)
    assert (grade.correct, grade.well_formed, grade.expected) == (correct, well_formed, "B")


def test_the_reference_is_what_the_grader_wants():
    task = CommonsenseQA()
    grade = task.grade(ITEM, task.reference(ITEM))
    assert grade.correct and grade.well_formed
    assert task.rewrite(ITEM, "It is (B), I think.") == "B"


def test_balanced_positions_and_unchanged_meaning():
    plain = [*items(9, 3), *items(10, 5)]
    balanced = balance_positions(plain, seed=1)
    assert Counter(item.answer for item in balanced[:9]) == dict.fromkeys(range(3), 3)
    assert Counter(item.answer for item in balanced[9:]) == dict.fromkeys(range(5), 2)
    for before, after in zip(plain, balanced, strict=True):
        assert before.id == after.id
        assert sorted(before.options) == sorted(after.options)
        assert before.options[before.answer] == after.options[after.answer]
    assert balance_positions(plain, seed=1) == balanced != balance_positions(plain, seed=2)


@pytest.mark.parametrize(
    "option", ["All of the above", "Ninguna de las anteriores", "1 y 3 son ciertas", "both"]
)
def test_options_that_speak_of_others_stay(option: str):
    item = ChoiceItem("1", "Q", ("one", "two", option), 2)
    assert balance_positions([item] * 6, seed=3) == [item] * 6


@pytest.mark.parametrize(("options", "answer"), [(("one",), 0), (("one", "two"), 2), (("one", "two"), -1)])
def test_impossible_items_are_refused(options: tuple[str, ...], answer: int):
    with pytest.raises(ValueError, match="answer"):
        ChoiceItem("1", "Q", options, answer)
