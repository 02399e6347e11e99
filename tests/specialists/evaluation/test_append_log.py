"""A log of results: whole lines survive a kill, and one process writes at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from specialists.evaluation.append_log import AppendLog, AppendLogError


def open_log(path: Path) -> AppendLog[int]:
    return AppendLog(path, {"seed": 1}, lambda row: int(row["n"]), lambda n: {"n": n})


def test_a_cut_line_is_taken_back_and_the_next_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    with open_log(path) as log:
        log.append(1)
        log.append(2)
    path.write_bytes(path.read_bytes()[:-3])
    with open_log(path) as log:
        assert log.rows == [1]
        log.append(3)
    assert path.read_text() == '{"settings": {"seed": 1}}\n{"n": 1}\n{"n": 3}\n'


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    program = (
        "import sys\nfrom pathlib import Path\nfrom tests.specialists.evaluation.test_append_log import open_log\n"
        "with open_log(Path(sys.argv[1])) as log:\n    log.append(1)\n    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        before = path.read_bytes()
        with pytest.raises(AppendLogError, match="is being written by another process"), open_log(path):
            pass
        assert path.read_bytes() == before
        other.kill()
    with open_log(path) as log:
        assert log.rows == [1]
