"""Rows from the training split of an evaluation task: its own prompt, and its reference in the asked form.

So a specialist is trained on just the questions and just the form that its grader knows. The right option of a multiple
choice stands at each place equally often, and somewhere else in each epoch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specialists.evaluation.choice import ChoiceItem, balance_positions
from specialists.evaluation.task import Task, TaskDataError
from specialists.evaluation.task_registry import get_task
from specialists.training.data import DataError, Row
from specialists.training.sections import Source


class TaskRows:
    """The items of one task, loaded once; rows are made for each epoch."""

    def __init__(self, source: Source, folders: Sequence[Path]) -> None:
        assert source.task is not None, "a source without a task is a file's"
        self._source = source
        self._task: Task[Any] = get_task(source.task, source.split)
        self._items = _load(self._task, folders)
        if not self._items:
            raise DataError(f"task {source.task} has no items in its {source.split} split")

    def rows(self, epoch: int, seed: int) -> list[Row]:
        """Raises DataError when the task has no reference answers to train on."""
        items = balanced(self._items, seed + epoch)
        rows = [row for item in items if (row := self._row(item)) is not None]
        if not rows:
            raise DataError(f"task {self._task.name} has no reference answers to train on; sample some first")
        return rows

    def _row(self, item: Any) -> Row | None:
        reference = self._task.reference(item)
        completion = self._task.rewrite(item, reference) if reference else None
        if not completion:
            return None
        messages = self._task.prompt(item)
        # Questions on one document fall on one side of the validation split.
        problem = getattr(item, "context", "") or item.id
        fields = {"prompt": messages[-1]["content"], "question": item.question}
        if isinstance(item, ChoiceItem):
            fields |= {"options": item.listed, "answer": item.options[item.answer]}
        if len(messages) > 1:
            return Row(problem, completion, fields, tuple(messages), ())
        return Row(problem, completion, fields, (), self._source.templates)


def load_items(task: Task[Any], folders: Sequence[Path], seed: int) -> list[Any]:
    """A task's items from the first folder that has its files, options at balanced places. Raises TaskDataError."""
    return balanced(_load(task, folders), seed)


def balanced(items: list[Any], seed: int) -> list[Any]:
    return balance_positions(items, seed) if items and isinstance(items[0], ChoiceItem) else items


def _load(task: Task[Any], folders: Sequence[Path]) -> list[Any]:
    """From the first folder that has the task's files."""
    for folder in folders[:-1]:
        try:
            return task.load(folder)
        except TaskDataError:
            continue
    return task.load(folders[-1])
