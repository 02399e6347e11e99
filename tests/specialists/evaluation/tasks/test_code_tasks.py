"""HumanEval and MBPP; the programs run in the real sandbox."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from specialists.evaluation.task import TaskDataError
from specialists.evaluation.tasks.humaneval import HumanEval
from specialists.evaluation.tasks.mbpp import MBPP, MBPPStub

ADD = "def add(a, b):\n    return a + b"
STUB = 'def add(a, b):\n    """Add."""\n'


def humaneval_row() -> dict[str, Any]:
    return {
        "task_id": "HumanEval/0",
        "prompt": "import math\n\ndef helper(x):\n    return x\n\n" + STUB,
        "entry_point": "add",
        "test": "def check(candidate):\n    assert candidate(1, 2) == helper(3)\n",
    }


def mbpp_row() -> dict[str, Any]:
    return {
        "text": "Write a function to add.",
        "code": "class Pair: pass\r\ndef add(a, b): return a + b",
        "task_id": 7,
        "test_setup_code": "import math",
        "test_list": ["assert math.fabs(add(1, 2)) == 3", "assert add(2, 2) == 4"],
        "challenge_test_list": ["assert add(-1, 1) == 0"],
    }


def write_data(data: Path) -> None:
    (data / "humaneval").mkdir(parents=True)
    (data / "mbpp").mkdir()
    with gzip.open(data / "humaneval/HumanEval.jsonl.gz", "wt") as file:
        file.write(json.dumps(humaneval_row()))
    (data / "mbpp/val_511_600.jsonl").write_text(json.dumps(mbpp_row()))


def test_humaneval(tmp_path: Path) -> None:
    write_data(tmp_path)
    task = HumanEval()
    (item,) = task.load(tmp_path)
    assert (item.id, item.entry_point) == ("HumanEval/0", "add")
    assert "def helper" in item.preamble
    assert STUB.strip() in task.prompt(item)[0]["content"]
    right = task.grade(item, f"```python\n{ADD}\n```")
    assert (right.correct, right.well_formed) == (True, True)
    wrong = task.grade(item, "```python\ndef add(a, b):\n    return a - b\n```")
    assert (wrong.correct, wrong.well_formed) == (False, True)
    assert "AssertionError" in wrong.detail
    assert task.rewrite(item, f"Here:\n```python\n{ADD}\n```\nDone.") == f"```python\n{ADD}\n```"
    assert task.rewrite(item, "    return a + b") is None
    assert task.reference(item) == ""
    with pytest.raises(TaskDataError, match="humaneval has no 'train' split, only"):
        HumanEval("train").load(tmp_path)


def test_mbpp(tmp_path: Path) -> None:
    write_data(tmp_path)
    task = MBPP("val")
    (item,) = task.load(tmp_path)
    assert (item.id, item.entry_point) == ("mbpp/val/7", "add")
    content = task.prompt(item)[0]["content"]
    assert "assert add(2, 2) == 4" in content
    assert "import math" not in content
    assert task.grade(item, ADD).correct
    assert not task.grade(item, "def add(a, b): return abs(a) + b").correct  # the challenge test sees it
    assert not task.grade(item, "I cannot do that.").correct


def test_damaged_rows_name_the_file(tmp_path: Path) -> None:
    write_data(tmp_path)
    (tmp_path / "mbpp/val_511_600.jsonl").write_text('{"text": "no tests"}')
    with pytest.raises(TaskDataError, match=r"val_511_600\.jsonl"):
        MBPP("val").load(tmp_path)
    with pytest.raises(TaskDataError, match=r"train_601_974\.jsonl"):
        MBPP("train").load(tmp_path)


def test_mbpp_asked_as_humaneval_asks(tmp_path: Path) -> None:
    write_data(tmp_path)
    rows = [
        mbpp_row() | {"test_list": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]},
        mbpp_row() | {"test_list": ["assert not add(0, 0)", "assert add(2, 2) == 4"]},
    ]
    (tmp_path / "mbpp/train_601_974.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = MBPPStub()
    (item,) = task.load(tmp_path)
    assert item.question == (
        'def add(a, b):\n    """ Write a function to add.\n    >>> add(1, 2)\n    3\n    >>> add(2, 2)\n    4\n    """\n'
    )
    assert "Complete this Python function" in task.prompt(item)[0]["content"]
    assert task.grade(item, f"```python\n{ADD}\n```").correct
    assert task.grade(item, "    return a + b").correct
    assert task.rewrite(item, ADD) == f"```python\n{ADD}\n```"
    assert task.reference(item) == ""
