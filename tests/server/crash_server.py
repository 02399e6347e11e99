"""A tiny server in a process of its own that a test can kill at any moment.

The processes are forked from one that has imported everything, so that a restart takes a second and not ten.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.server.tiny", "transformers", "server.store.specialists", "alembic.command", "router.delegator"]
)


class KillableServer:
    """Where it listens, and the kill."""

    def __init__(self, url: str, process: Any) -> None:
        self.url = url
        self._process = process

    def kill(self) -> None:
        """As by a power cut, as far as the process can tell: nothing of it runs any more."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


@contextmanager
def killable_server(settings: dict[str, Any]) -> Iterator[KillableServer]:
    """Serve until the block is left; gives the server when it is ready."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(settings, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(120), "the server did not become ready"
        yield KillableServer(ours.recv(), process)
    finally:
        process.kill()
        process.join()
        ours.close()


def _serve(settings: dict[str, Any], announce: Connection) -> None:
    from server.lifecycle import Lifecycle
    from server.settings import Settings
    from tests.server.tiny import load_predictable, running

    with running(Lifecycle(Settings(**settings), load_predictable)) as url:
        announce.send(url)
        signal.pause()
