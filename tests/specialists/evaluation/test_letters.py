"""What is read as the chosen letter, in many forms of answers."""

import pytest

from specialists.evaluation.letters import read_letter

OPTIONS = ("bank", "library", "department store", "mall", "New York")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        (" (B) ", "B"),
        ("[B]", "B"),
        ("**B**", "B"),
        ("B) library", "B"),
        ("B. library", "B"),
        ("B: library", "B"),
        ("B library", "B"),
        ("B\n\nA revolving door would not be at a bank.", "B"),
        ("B, because A. is not a place", "B"),
        ("A", "A"),
        ("A is correct.", "A"),
        ("A because of the money", "A"),
        ("The answer is C.", "C"),
        ("The correct answer is: **C**", "C"),
        ("The correct answer is (C) department store.", "C"),
        ("Answer: C", "C"),
        ("answer: c", "C"),
        ("Answer: option D", "D"),
        ("The best option is D.", "D"),
        ("The answer is E because it is a city", "E"),
        ("Final answer: $\\boxed{\\text{D}}$", "D"),
        ("\\boxed{D}", "D"),
        ("\\boxed{D. mall}", "D"),
        ("First A seems right. The answer is A? No, wait. The answer is B", "B"),
        ("Reasons and reasons.\nMore reasons.\n\nC", "C"),
        ("Reasons about it.\n(C)", "C"),
        ("I think option C fits best.", "C"),
        ("It must be (D), as people shop there.", "D"),
        ("La respuesta correcta es la B.", "B"),
        ("La respuesta es la opción C", "C"),
        ("Respuesta: D", "D"),
        ("La opción correcta es la letra E.", "E"),
        ("It is not A. The answer is B.", "B"),
        ("library", "B"),
        ("The door is at a department store.", "C"),
        ("It is in new york", "E"),
        ("A library.", "B"),
        ("A bank is a place with money", "A"),
        ("a bank", "A"),
    ],
)
def test_one_choice(text: str, letter: str):
    assert read_letter(text, OPTIONS) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I do not know.",
        "A or B",
        "Both (A) and (B) are right.",
        "A, B",
        "The answer is A or C.",
        "F",
        "A. bank\nB. library\nC. department store\nD. mall\nE. New York",
        "It could be the bank or the mall.",
        "A revolving door is convenient.",
        "I",
        "not A",
        "Option B is possible, option D as well.",
    ],
)
def test_no_choice(text: str):
    assert read_letter(text, OPTIONS) is None


def test_only_letters_of_options_count():
    assert read_letter("C", ("yes", "no")) is None
    assert read_letter("C", ("yes", "no", "maybe")) == "C"


def test_the_longer_of_nested_options_is_meant():
    assert read_letter("the dog house", ("dog", "dog house")) == "B"
    assert read_letter("the dog", ("dog", "dog house")) == "A"
