"""The sandbox for real: what a program may do, and that everything else fails without harm."""

import os
import socket
import time
from pathlib import Path

import pytest

from specialists.evaluation import sandbox
from specialists.evaluation.sandbox import Limits, Sandbox

SMALL = Sandbox(Limits(cpu_seconds=1, wall_seconds=4.0, memory_bytes=256 << 20, max_processes=6))
needs_namespaces = pytest.mark.skipif(
    Sandbox().isolation == "limits", reason="this machine allows no namespaces: only limits hold"
)


@pytest.mark.parametrize(
    "program",
    [
        "assert 1 + 1 == 2",
        "import collections, dataclasses, decimal, heapq, itertools, json, re, statistics, typing",
        "open('note', 'w').write('x'); assert open('note').read() == 'x'",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "print('much\\n' * 10**6)",
        "if __name__ == '__main__': pass\nelse: raise SystemError",
    ],
)
def test_ordinary_programs_run(program: str) -> None:
    assert SMALL.run(program).ok


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("assert False, 'why'", "AssertionError: why"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(0)", "called exit"),
        ("import os; os._exit(0)", "left before the end"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError"),
        ("raise ValueError('\\ud800')", "ValueError"),
        ("input()", "EOFError"),
    ],
)
def test_failures_say_why(program: str, error: str) -> None:
    result = SMALL.run(program)
    assert not result.ok
    assert error in result.error


def test_an_infinite_loop_ends_at_the_cpu_limit() -> None:
    start = time.monotonic()
    result = SMALL.run("while True: pass")
    assert not result.ok
    assert "CPU" in result.error or "timeout" in result.error
    assert time.monotonic() - start < 6.0


def test_a_sleeper_ends_at_the_wall_limit() -> None:
    result = Sandbox(Limits(wall_seconds=0.8)).run("import time; time.sleep(60)")
    assert result.error == "timeout: more than 0.8 s"


def test_a_memory_bomb_fails_alone() -> None:
    result = SMALL.run("data = []\nwhile True: data.append(bytearray(10**7))")
    assert not result.ok
    assert "Memory" in result.error or "memory" in result.error


@needs_namespaces
def test_a_fork_bomb_is_stopped_and_leaves_nothing() -> None:
    before = len(list(Path("/proc").glob("[0-9]*")))
    result = SMALL.run("import os\nwhile True:\n    os.fork()")
    assert not result.ok
    assert len(list(Path("/proc").glob("[0-9]*"))) < before + 50
    counted = SMALL.run(
        "import os, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            time.sleep(9)\n"
        "        n += 1\nexcept OSError:\n    assert n < 6, n"
    )
    assert counted.ok, counted.error


def test_a_daemon_does_not_survive(tmp_path: Path) -> None:
    mark = f"polymath-orphan-{os.getpid()}"
    program = f"import os, time\nif os.fork() == 0:\n    time.sleep(30)  # {mark}\n"
    start = time.monotonic()
    SMALL.run(program)
    assert time.monotonic() - start < 6.0
    children = [path for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == os.getpid()]
    assert not any(b"sandbox_child" in path.with_name("cmdline").read_bytes() for path in children)


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return -1


@needs_namespaces
@pytest.mark.parametrize("address", ["('1.1.1.1', 53)", "('127.0.0.1', 22)"])
def test_there_is_no_network(address: str) -> None:
    program = f"import socket\nsocket.create_connection({address}, 1)"
    assert "unreachable" in SMALL.run(program).error


@needs_namespaces
def test_the_file_system_is_read_only_but_for_one_small_folder(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    tmp_path.chmod(0o777)
    victim.chmod(0o666)
    for program in (
        f"open({str(victim)!r}, 'w')",
        f"import os; os.remove({str(victim)!r})",
        "import os; open(os.__file__, 'a')",
        "open('/x', 'w')",
        "open('/dev/x', 'w')",
    ):
        assert not SMALL.run(program).ok
    assert victim.read_text() == "precious"
    mark = Path(f"/tmp/polymath-{os.getpid()}")
    assert SMALL.run(f"open({str(mark)!r}, 'w').write('x')").ok
    assert not mark.exists()


@needs_namespaces
@pytest.mark.parametrize("path", ["/proc/self/cmdline", "/etc/passwd", "/sys/kernel", __file__])
def test_nothing_of_the_machine_is_to_be_seen(path: str) -> None:
    assert "FileNotFoundError" in SMALL.run(f"import os; os.stat({path!r})").error


@needs_namespaces
def test_no_other_program_can_be_talked_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        Path(address).chmod(0o777)
        program = f"import socket\nsocket.socket(socket.AF_UNIX).connect({address!r})"
        assert "FileNotFoundError" in SMALL.run(program).error


def test_large_files_are_refused() -> None:
    result = Sandbox(Limits(max_file_bytes=1 << 20)).run("open('big', 'wb').write(bytes(5 << 20))")
    assert not result.ok


def test_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    assert SMALL.run("import os; assert 'SECRET_KEY' not in os.environ, 'leaked'").ok


@needs_namespaces
def test_privileges_are_gone() -> None:
    program = "import ctypes; assert ctypes.CDLL(None).mount(None, b'/', None, 33, None) == -1"
    assert SMALL.run(program).ok


def test_many_at_once_come_back_in_order() -> None:
    results = SMALL.run_many([f"assert {index} % 3" for index in range(9)], workers=2)
    assert [result.ok for result in results] == [False, True, True] * 3


@pytest.mark.slow
def test_limits_hold_where_there_are_no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_find_isolation", lambda: "limits")
    assert SMALL.isolation == "limits"
    assert SMALL.run("open('note', 'w').write('x')").ok
    assert not SMALL.run("while True: pass").ok
    assert "Memory" in SMALL.run("x = bytearray(10**9)").error
