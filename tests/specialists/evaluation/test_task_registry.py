import pytest

from specialists.evaluation.task import TaskDataError
from specialists.evaluation.task_registry import TASKS, get_task


def test_every_task_is_known_under_its_own_name() -> None:
    assert {get_task(name).name for name in TASKS} == set(TASKS)


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TaskDataError, match="no task 'sudoku'; there are aime2024, aqua,"):
        get_task("sudoku")
