"""One problem in three forms: what is asked, which options there are, and the ending a right solution gets."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialists.evaluation.choice import ChoiceItem
from specialists.evaluation.task import TaskDataError
from specialists.evaluation.tasks.competition_math import Math500
from specialists.evaluation.tasks.gsm8k_forms import NUM_OPTIONS, GSM8KBoxed, GSM8KOptions
from tests.specialists.evaluation.tasks.rows import write_jsonl

ROW = {"question": "Ann has 16 eggs, eats 7 and sells the rest at $2.", "answer": "16-7=9\n9*2=18\n#### 18"}
SOLUTION = "She sells 16 - 7 = 9.\nThat makes 9 * 2 = 18."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_jsonl(tmp_path, "gsm8k/train.jsonl.gz", [ROW])
    return tmp_path


def option_item(data: Path) -> ChoiceItem:
    (item,) = GSM8KOptions("train").load(data)
    return item


def test_options_are_of_the_problem(data: Path):
    item = option_item(data)
    assert item.options[item.answer] == "18" and len(set(item.options)) == NUM_OPTIONS
    assert {"16", "7", "9", "2"} & set(item.options)
    assert option_item(data) == item  # by the row, not by chance
    content = GSM8KOptions("train").prompt(item)[0]["content"]
    assert item.listed in content and "Answer: <letter>" in content


def test_a_solution_ends_with_the_letter_of_its_number(data: Path):
    task, item = GSM8KOptions("train"), option_item(data)
    ending = f"{SOLUTION}\nAnswer: {item.letter}"
    assert task.rewrite(item, f"{SOLUTION}\n#### 18") == ending
    assert task.rewrite(item, ending) == ending
    assert task.grade(item, ending).correct and task.grade(item, ending).well_formed
    assert task.rewrite(item, f"{SOLUTION}\n#### 19") is None
    assert task.rewrite(item, f"Answer: {item.letter}") is None  # no reasoning to learn from


def test_a_solution_ends_with_its_box(data: Path):
    task = GSM8KBoxed("train")
    (item,) = task.load(data)
    assert task.prompt(item)[0]["content"].endswith(Math500().prompt(item)[0]["content"].split("\n\n")[-1])  # type: ignore[arg-type]
    assert task.rewrite(item, f"{SOLUTION}\n#### 18") == f"{SOLUTION}\n\nThe answer is $\\boxed{{18}}$."
    boxed = "She gets \\[ \\boxed{18} \\]"
    assert task.rewrite(item, f"{boxed}\n\n#### 18") == boxed
    assert task.rewrite(item, "She gets $\\boxed{19}$.\n#### 18") is None


def test_they_are_not_for_scores(data: Path):
    for task in (GSM8KOptions("test"), GSM8KBoxed("test")):
        with pytest.raises(TaskDataError, match="no 'test' split"):
            task.load(data)


@given(answer=st.fractions(-50, 10**6, max_denominator=4), words=st.lists(st.integers(0, 99), max_size=5))
def test_five_different_options_whatever_the_answer(answer: Fraction, words: list[int]):
    row = {"question": " and ".join(map(str, words)), "answer": f"So it is.\n#### {answer}"}
    (item,) = GSM8KOptions("train").parse(row, "gsm8k_options/train/3")
    assert len(set(item.options)) == NUM_OPTIONS
    assert Fraction(item.options[item.answer]) == answer
