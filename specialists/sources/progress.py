"""How long work tells of itself, without knowing who shows it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_POLL_SECONDS = 0.1


class Progress(Protocol):
    """Receives what is going on. `task` names one bar; several may be open at a time."""

    def start(self, task: str, total_bytes: int | None) -> None:
        """Open a bar; without a total it only shows that work goes on."""

    def move_to(self, task: str, completed_bytes: int) -> None: ...

    def finish(self, task: str) -> None: ...

    def notice(self, text: str) -> None:
        """One line worth reading, such as a mirror that is passed over."""


class SilentProgress:
    """Shows nothing."""

    def start(self, task: str, total_bytes: int | None) -> None: ...

    def move_to(self, task: str, completed_bytes: int) -> None: ...

    def finish(self, task: str) -> None: ...

    def notice(self, text: str) -> None: ...


SILENT = SilentProgress()


@contextmanager
def watched(folder: Path, task: str, size: int, total: tuple[str, int], progress: Progress) -> Iterator[None]:
    """Show the growth of `folder` as a bar of its own and on top of the `total` (task, bytes before).

    Looking at the disk works with every version of pip and of the hub's client, none of which report alike.
    """
    total_task, before = total
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_POLL_SECONDS):
            completed = min(_bytes_under(folder), size)
            progress.move_to(task, completed)
            progress.move_to(total_task, before + completed)

    progress.start(task, size)
    watcher = threading.Thread(target=look, name="download-progress", daemon=True)
    watcher.start()
    try:
        yield
        stop.set()
        watcher.join()
        progress.move_to(total_task, before + size)
    finally:
        stop.set()
        watcher.join()
        progress.finish(task)


def _bytes_under(folder: Path) -> int:
    size = 0
    try:
        for path in folder.rglob("*"):
            size += path.stat().st_size if path.is_file() else 0
    except OSError:  # files come and go while they are looked at
        pass
    return size
