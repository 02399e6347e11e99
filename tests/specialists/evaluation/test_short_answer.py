import pytest

from specialists.evaluation.short_answer import grade_short_answer, normalize, read_short_answer, word_f1

ANSWERS = ("The French Connection", "French Connection")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Onion", "Onion"),
        ("Onion.", "Onion"),
        ("**Onion**", "Onion"),
        ('"Onion"', "Onion"),
        ("The answer is Onion.", "Onion"),
        ("Answer: Onion", "Onion"),
        ("The correct answer is: Onion", "Onion"),
        ("La respuesta es Cebolla.", "Cebolla"),
        ("Respuesta: Cebolla", "Cebolla"),
        ("\n\nOnion\nIt is a vegetable.", "Onion"),
        ("Answer:\nOnion", "Onion"),
        ("", ""),
    ],
)
def test_what_is_read(text: str, read: str):
    assert read_short_answer(text) == read


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The Beatles", "beatles"),
        ("U.S.A.", "USA"),
        ("rock-n-roll", "rocknroll"),
        ("  an   apple ", "apple"),
        ("dan_dare", "Dan Dare"),
        ("\u201cHamlet\u201d", "hamlet"),
    ],
)
def test_what_is_the_same(first: str, second: str):
    assert normalize(first) == normalize(second)


def test_articles_are_those_of_the_language_and_never_all_there_is():
    assert normalize("¿La Habana?", "es") == "habana"
    assert normalize("La Habana") == "la habana"
    assert normalize("The The") == "the the"


@pytest.mark.parametrize(
    ("answer", "gold", "f1"),
    [("the red fox", "red fox", 1.0), ("red", "red fox", 2 / 3), ("blue", "red fox", 0.0), ("", "red", 0.0),
     ("red red", "red fox", 0.5)],
)  # fmt: skip
def test_f1_of_words(answer: str, gold: str, f1: float):
    assert word_f1(answer, gold) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("text", "correct", "well_formed", "credit"),
    [
        ("French Connection", True, True, 1.0),
        ("The answer is the french connection.", True, True, 1.0),
        ("The French Connection II", False, True, 0.8),
        ("Unforgiven", False, True, 0.0),
        ("French Connection\nIt was made in 1971.", True, False, 1.0),
        ("", False, False, 0.0),
    ],
)
def test_the_best_alias_counts(text: str, correct: bool, well_formed: bool, credit: float):
    grade = grade_short_answer(text, ANSWERS)
    assert (grade.correct, grade.well_formed) == (correct, well_formed)
    assert grade.score == pytest.approx(credit)
    assert grade.expected == "The French Connection"
