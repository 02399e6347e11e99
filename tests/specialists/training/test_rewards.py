from dataclasses import dataclass

import pytest

from specialists.engine.llm_engine import Completion
from specialists.engine.output import FinishReason
from specialists.training.method_sections import Grpo
from specialists.training.rewards import Question, advantages, reward
from tests.specialists.training.toy_task import EarlyLetters, ToyItem

SETTINGS = Grpo(tasks=("early",), max_new_tokens=20, length_budget=10, form_weight=0.5, length_weight=0.2)
QUESTION = Question(EarlyLetters(), ToyItem("early/1", "Say 1!"))


def answer(text: str, num_tokens: int, reason: FinishReason = FinishReason.STOP) -> Completion:
    return Completion(text, (1,) * num_tokens, reason)


def test_the_parts_are_the_tasks_grade_and_the_length() -> None:
    one = reward(QUESTION, answer("abz", 5), SETTINGS)
    assert (one.correct, one.form, one.length) == (pytest.approx(2 / 3), 1.0, 1.0)
    assert one.total == pytest.approx(2 / 3 + 0.5 + 0.2)
    long = reward(QUESTION, answer("a" * 30, 15), SETTINGS)
    assert (long.correct, long.form, long.length) == (1.0, 0.0, 0.5)
    assert reward(QUESTION, answer("abc", 20, FinishReason.LENGTH), SETTINGS).length == 0.0


def test_the_instruction_stands_behind_the_bare_question() -> None:
    assert QUESTION.messages(None) == [{"role": "user", "content": "Say 1!"}]
    assert QUESTION.messages("Think first.")[0]["content"] == "Say 1!\n\nThink first."


def test_what_a_question_is_about_stands_before_it() -> None:
    @dataclass
    class OnATable:
        question: str = "How many?"
        context: str = "a | 1"

    asked = Question(QUESTION.task, OnATable())  # type: ignore[arg-type]
    assert asked.messages("Think first.")[0]["content"] == "a | 1\n\nHow many?\n\nThink first."


def test_advantages_compare_within_the_group() -> None:
    assert advantages([1.0, 0.0, 1.0, 0.0]) == [1.0, -1.0, 1.0, -1.0]
    assert advantages([0.7, 0.7]) == [0.0, 0.0]
