"""Training state on disk, such that a killed run continues exactly where the last checkpoint stood.

One file, written beside its final name and renamed: there is always either the old or the new one, whole.
"""

from pathlib import Path
from typing import Any

import torch

CHECKPOINT_FILE = "checkpoint.pt"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or continued; the message names the file and why."""


def write_checkpoint(folder: Path, run: str, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint. `run` identifies recipe and data.

    Raises CheckpointError when the disk refuses it; the one before is whole then.
    """
    partial = folder / f".{CHECKPOINT_FILE}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"run": run, "state": state}, partial)
        partial.replace(folder / CHECKPOINT_FILE)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError for a full disk
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write {folder / CHECKPOINT_FILE} ({error}); the checkpoint before it is whole: "
            "make room and resume"
        ) from error


def read_checkpoint(folder: Path, run: str) -> dict[str, Any] | None:
    """The state to continue from; None when the folder has none.

    Raises CheckpointError when it is damaged or belongs to another recipe or other data.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        content = torch.load(path, weights_only=True)
        found, state = content["run"], content["state"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to start anew") from error
    if found != run:
        raise CheckpointError(
            f"{path} is of another recipe, other data or another start; delete it to start anew"
        )
    checked: dict[str, Any] = state
    return checked
