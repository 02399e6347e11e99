"""A progress bar for long runs, on standard error: done, tokens per second, a running remark, time left."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Meter:
    """One bar. `advance` counts items and tokens; the remark is shown at its end."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, rate="", remark="")
        self._num_tokens = 0
        self._start = monotonic()

    @property
    def tokens_per_second(self) -> float:
        return self._num_tokens / max(monotonic() - self._start, 1e-9)

    def advance(self, items: int = 1, tokens: int = 0, remark: str = "") -> None:
        self._num_tokens += tokens
        rate = f"{self.tokens_per_second:.0f} tok/s"
        self._progress.update(self._task, advance=items, rate=rate, remark=remark)


@contextmanager
def show_progress(title: str, total: int | None) -> Iterator[Meter]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[remark]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Meter(progress, title, total)
