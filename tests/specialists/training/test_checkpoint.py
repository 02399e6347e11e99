from pathlib import Path

import pytest
import torch

from specialists.training.checkpoint import (
    CHECKPOINT_FILE,
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path, "run") is None
    write_checkpoint(tmp_path / "deep", "run", {"step": 3, "weights": {"w": torch.ones(2)}})
    state = read_checkpoint(tmp_path / "deep", "run")
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(state["weights"]["w"], torch.ones(2))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [CHECKPOINT_FILE]


def test_another_run_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "run", {"step": 3})
    with pytest.raises(CheckpointError, match="another recipe, other data or another start"):
        read_checkpoint(tmp_path, "other")
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read"):
        read_checkpoint(tmp_path, "run")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_leaves_the_checkpoint_before_it_whole(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, "run", {"step": 3})

    def fail(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(CheckpointError, match=r"cannot write .*checkpoint\.pt .*make room and resume"):
            write_checkpoint(tmp_path, "run", {"step": 4})
    assert read_checkpoint(tmp_path, "run") == {"step": 3}
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]
