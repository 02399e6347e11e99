"""All rows of a run: files and tasks together, split into training and validation by problem, hashed."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

from specialists.training.data import DataError, Row, find_file, limit_per_problem, read_source, split_rows
from specialists.training.sections import Source, Validation
from specialists.training.task_rows import TaskRows


class TrainingRows:
    """The rows of some sources. Reading happens once, here; raises DataError or TaskDataError naming the file."""

    def __init__(
        self, sources: Sequence[Source], folders: Sequence[Path], validation: Validation, seed: int
    ) -> None:
        self._sources = sources
        self._validation = validation
        self._seed = seed
        self._tasks = {source: TaskRows(source, folders) for source in sources if source.task is not None}
        self._files = {
            source: read_source(source, folders, seed) for source in sources if source.path is not None
        }
        self._folders = folders
        if not self.train(0):
            raise DataError("no rows are left to train on after the validation split")

    def train(self, epoch: int) -> list[Row]:
        return self._split(epoch)[0]

    @property
    def validation(self) -> list[Row]:
        """As they stand in the first epoch."""
        return self._split(0)[1]

    def _split(self, epoch: int) -> tuple[list[Row], list[Row]]:
        rows = [row for source in self._sources for row in self._rows_of(source, epoch)]
        # In an order of their own, so that a limit of the validation rows takes some of each source.
        random.Random(self._seed).shuffle(rows)
        return split_rows(rows, self._validation.share, self._validation.max_rows, self._seed)

    def _rows_of(self, source: Source, epoch: int) -> list[Row]:
        if source.path is not None:
            return self._files[source]
        rows = limit_per_problem(self._tasks[source].rows(epoch, self._seed), source.max_per_problem)
        if source.max_rows is None or len(rows) <= source.max_rows:
            return rows
        return random.Random(self._seed).sample(
            rows, source.max_rows
        )  # by place: the same items in each epoch

    def sha256(self) -> str:
        """One hash over files as they are and tasks as the rows of the first epoch, in the recipe's order."""
        digest = hashlib.sha256()
        for source in self._sources:
            if source.path is not None:
                digest.update(hashlib.sha256(find_file(source.path, self._folders).read_bytes()).digest())
            else:
                rows = self._tasks[source].rows(0, self._seed)
                lines = [[row.problem, row.fields["prompt"], row.completion] for row in rows]
                digest.update(hashlib.sha256(json.dumps(lines).encode()).digest())
        return digest.hexdigest()
