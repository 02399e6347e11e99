"""Whether two mathematical expressions are the same value, by math-verify, in a process of its own.

What a model writes can keep a computer algebra system busy for ever (a tower of powers), and its own time
limit needs signals, which only a main thread has. So one child process compares, and is ended when it takes
longer than `TIMEOUT_SECONDS`; what cannot be compared in time is not equivalent. May be called from threads.
"""

import atexit
import logging
import multiprocessing
import re
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

TIMEOUT_SECONDS = 10.0
_START_SECONDS = 120.0  # importing sympy, on a busy machine

_MAX_LENGTH = 400  # characters of an answer worth parsing
_SPACES = re.compile(r"\\[,;!: ]|~|\s+")


def is_equivalent(gold: str, answer: str) -> bool:
    """`\\frac{1}{2}`, `0.5` and `1/2` are; so are sets, tuples and intervals of equal parts."""
    if _plain(gold) == _plain(answer):
        return True
    if len(answer) > _MAX_LENGTH:
        return False
    return _comparer.compare(gold, answer)


def _plain(text: str) -> str:
    text = _SPACES.sub("", text.strip().strip("$").removesuffix("."))
    return text.replace("\\left", "").replace("\\right", "").replace("dfrac", "frac").replace("tfrac", "frac")


class _Comparer:
    """The child process; started at the first use, and anew after it had to be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def compare(self, gold: str, answer: str) -> bool:
        with self._lock:
            pipe = self._pipe if self._process is not None and self._process.is_alive() else None
            try:
                pipe = pipe or self._start()
                pipe.send((gold, answer))
                if pipe.poll(TIMEOUT_SECONDS):
                    return bool(pipe.recv())
            except (OSError, EOFError):
                pass  # it died of the expression
            self.stop()
            return False

    def _start(self) -> Connection:
        self.stop()
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()
        if not self._pipe.poll(_START_SECONDS):
            raise OSError("the process that compares expressions does not start")
        self._pipe.recv()
        return self._pipe

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


_comparer = _Comparer()
atexit.register(_comparer.stop)


def _serve(pipe: Connection) -> None:
    """In the child: say that it is ready, then answer until the pipe closes."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that nobody but us watches the time
    pipe.send("ready")
    while True:
        try:
            gold, answer = pipe.recv()
        except EOFError:
            return
        pipe.send(_are_equal(parse, verify, gold, answer))


def _are_equal(parse: Callable[..., Any], verify: Callable[..., Any], gold: str, answer: str) -> bool:
    try:
        return bool(
            verify(
                parse(f"${gold}$", parsing_timeout=None),
                parse(f"${answer}$", parsing_timeout=None),
                timeout_seconds=None,
            )
        )
    except Exception:  # sympy raises whatever it pleases on expressions it does not understand
        return False
