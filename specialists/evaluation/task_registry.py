"""Which tasks there are, by the name the command line and the recipes use."""

from collections.abc import Callable
from typing import Any

from specialists.evaluation.code_exec import MBPP, HumanEval, MBPPStub
from specialists.evaluation.math_word import GSM8K
from specialists.evaluation.task import Split, Task, TaskDataError

# Any: each task has its own type of item, which only the task itself looks into.
TASKS: dict[str, Callable[[Split], Task[Any]]] = {
    "gsm8k": GSM8K,
    "humaneval": HumanEval,
    "mbpp": MBPP,
    "mbpp_stub": MBPPStub,
}


def get_task(name: str, split: Split = "test") -> Task[Any]:
    """Raises TaskDataError naming the tasks there are."""
    if name not in TASKS:
        raise TaskDataError(f"no task {name!r}; there are {', '.join(sorted(TASKS))}")
    return TASKS[name](split)
