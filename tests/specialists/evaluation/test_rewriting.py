"""Rewritten items ask the same: the right option stays right, the others stay wrong."""

from pathlib import Path

import pytest

from specialists.evaluation.choice import ChoiceItem
from specialists.evaluation.rewriting import ITEM_REWRITINGS, RewrittenTask, rewritings_for
from specialists.evaluation.task import TaskDataError
from specialists.evaluation.tasks.commonsenseqa import CommonsenseQA
from specialists.evaluation.tasks.gsm8k import GSM8K
from specialists.evaluation.tasks.headqa import HeadQA
from specialists.evaluation.tasks.humaneval import HumanEval
from tests.specialists.evaluation.tasks.rows import write_jsonl


@pytest.fixture
def data(tmp_path: Path) -> Path:
    def row(number: int) -> dict[str, object]:
        choices = [{"label": label, "text": f"{label}{number}"} for label in "ABCDE"]
        return {"answerKey": "C", "question": {"stem": f"What is {number}?", "choices": choices}}

    write_jsonl(tmp_path, "commonsenseqa/dev_even.jsonl", [row(number) for number in range(30)])
    return tmp_path


@pytest.mark.parametrize("rewriting", sorted(ITEM_REWRITINGS))
def test_the_right_option_stays_right(data: Path, rewriting: str):
    plain = CommonsenseQA().load(data)
    task = RewrittenTask(CommonsenseQA(), rewriting, seed=1)
    rewritten = task.load(data)
    assert [item.id for item in rewritten] == [item.id for item in plain]
    for before, after in zip(plain, rewritten, strict=True):
        assert before.options[before.answer] in after.options[after.answer].split(", that is, ")
        assert task.grade(after, after.letter).correct
    assert task.load(data) == rewritten
    assert [item.question for item in rewritten] != [item.question for item in plain]


def test_order_length_and_number_of_options(data: Path):
    def load(rewriting: str) -> list[ChoiceItem]:
        return RewrittenTask(CommonsenseQA(), rewriting, seed=1).load(data)

    assert len({item.answer for item in load("option_order")}) == 5
    added = load("more_options")[0].options
    assert added[:5] == ("A0", "B0", "C0", "D0", "E0")
    assert added[5].startswith("C") and added[5] != "C0"


def test_a_longer_option_is_right_as_often_as_any(data: Path):
    items = RewrittenTask(CommonsenseQA(), "option_length", seed=1).load(data)
    longer = [[", that is, " in option for option in item.options] for item in items]
    assert {sum(of_item) for of_item in longer} == {2, 3}
    assert items[0].options[longer[0].index(True)] in {f"{label}0, that is, {label}0" for label in "ABCDE"}
    share = sum(of_item[item.answer] for item, of_item in zip(items, longer, strict=True)) / len(items)
    assert 0.3 <= share <= 0.7


def test_prompts_put_differently(data: Path):
    (item, *_) = CommonsenseQA().load(data)
    swapped = RewrittenTask(CommonsenseQA(), "question_form", 1).prompt(item)[0]["content"]
    assert swapped == f"{CommonsenseQA.instruction}\n\n{item.question}"
    aside = RewrittenTask(CommonsenseQA(), "aside", 1).prompt(item)[0]["content"]
    assert aside.endswith(CommonsenseQA().prompt(item)[0]["content"]) and "library" in aside
    assert "biblioteca" in RewrittenTask(HeadQA(), "aside", 1).prompt(item)[0]["content"]


def test_code_stays_in_one_piece(tmp_path: Path):
    row = {
        "task_id": "HumanEval/0",
        "prompt": 'def f(x):\n\n    """Same."""\n',
        "entry_point": "f",
        "test": "def check(c): pass",
    }
    write_jsonl(tmp_path, "humaneval/HumanEval.jsonl.gz", [row])
    (item,) = HumanEval().load(tmp_path)
    content = RewrittenTask(HumanEval(), "question_form", 1).prompt(item)[0]["content"]
    assert content.startswith("```python\ndef f(x):\n\n    ") and content.endswith("```python block.")


def test_options_need_options(data: Path):
    write_jsonl(data, "gsm8k/test_first660.jsonl", [{"question": "1+1?", "answer": "2\n#### 2"}])
    with pytest.raises(TaskDataError, match="option_order rewrites options, and task gsm8k has none"):
        RewrittenTask(GSM8K(), "option_order", 1).load(data)
    assert rewritings_for(GSM8K(), GSM8K().load(data)) == ["question_form", "aside"]
    assert len(rewritings_for(CommonsenseQA(), CommonsenseQA().load(data))) == 5
