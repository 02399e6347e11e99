"""`polymath pull`: make the base model and the encoder ready, and show how it goes.

Quick when there is nothing to do: neither torch nor transformers is imported here, not even to convert.
"""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from specialists.base_model import import_base, import_encoder


def run_pull(home: Path, base: str, encoder: str, *, quiet: bool = False, force: bool = False) -> None:
    """Fetch, verify and import what is missing of the base model and the encoder; `force` does it all anew.

    `quiet` leaves out bars and what was already there, not the few lines that tell of long work.
    Raises SourceError or BaseModelError; the message is the one sentence to show.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for noun, import_model, source in (
        ("base model", import_base, base),
        ("encoder", import_encoder, encoder),
    ):
        with TerminalProgress(console, bars=console.is_terminal and not quiet) as progress:
            started = time.perf_counter()
            folder = import_model(source, home, progress, force=force)
        if progress.was_used:
            console.print(f"{noun} ready after {time.perf_counter() - started:.0f} s: {escape(str(folder))}")
        elif not quiet:
            console.print(f"{noun} ready: {escape(str(folder))}")


class TerminalProgress:
    """Bars on a terminal, one plain line per step elsewhere."""

    def __init__(self, console: Console, *, bars: bool) -> None:
        self.was_used = False
        self._console = console
        self._bars = _make_bars(console) if bars else None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, task: str, total_bytes: int | None) -> None:
        self.was_used = True
        if self._bars is None:
            size = f" ({total_bytes / 1e6:,.0f} MB)" if total_bytes else ""
            self._console.print(escape(f"{task}{size}"))
            return
        self._bars.start()
        self._tasks[task] = self._bars.add_task(escape(task), total=total_bytes)

    def move_to(self, task: str, completed_bytes: int) -> None:
        if self._bars is not None:
            self._bars.update(self._tasks[task], completed=completed_bytes)

    def finish(self, task: str) -> None:
        if self._bars is not None:
            self._bars.remove_task(self._tasks.pop(task))

    def notice(self, text: str) -> None:
        self.was_used = True
        self._console.print(escape(text))


class _AmountColumn(ProgressColumn):
    """How much of how much, and how fast; nothing for work whose size is not known."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        speed = f", {task.speed / 1e6:.0f} MB/s" if task.speed else ""
        return Text(f"{task.completed / 1e6:,.0f} of {task.total / 1e6:,.0f} MB{speed}")


def _make_bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _AmountColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
