import pytest

from specialists.evaluation.last_line import read_last_line, rewrite_last_line


@pytest.mark.parametrize(
    ("text", "answer", "is_marked"),
    [
        ("1 + 1 = 2\nAnswer: 2", "2", True),
        ("Answer: 17.7 percent.", "17.7 percent", True),
        ("Answer: a whole sentence that ends here.", "a whole sentence that ends here.", True),
        ("**Answer:** 2", "2", False),
        ("Answer: 3\nNo.\nAnswer: 4", "4", True),
        ("Answer: 4\nThat is all.", "4", False),
        ("The final answer is: 4", "4", False),
        ("So \\boxed{4\\%} it is", "4%", False),
        ("We see the answer is $4$", "4", False),
        ("It was 12.", "It was 12", False),
        ("Answer: $(9.8) million", "$(9.8) million", True),
        ("Answer: $4", "$4", True),
        ("", "", False),
        ("Answer:", "Answer:", False),
    ],
)
def test_what_is_stated(text: str, answer: str, is_marked: bool):
    stated = read_last_line(text)
    assert (stated.answer, stated.is_marked) == (answer, is_marked)


def test_the_calculation_stays():
    assert rewrite_last_line("2 - 1 = 1\nThe answer is 1.", "1") == "2 - 1 = 1\nAnswer: 1"
    assert rewrite_last_line("Answer: one", "1") == "Answer: 1"
