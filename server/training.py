"""What `polymath train` does with the settings: folders found, a run started, its end told."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from server.settings import Settings, SettingsError
from specialists.base_model import resolve_base
from specialists.training.run import train
from specialists.training.run_folders import Folders


def train_specialist(
    settings: Settings, recipe: Path, data: Sequence[Path], out: Path | None, *, resume: bool
) -> None:
    """Raises what `specialists.training.run.train` raises, and SettingsError without a data folder."""
    folders = Folders(
        base=resolve_base(settings.base, settings.home),
        data=data_folders(settings, data),
        out=out or Path("runs") / recipe.stem,
    )
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    result = train(recipe, folders, find_model=partial(resolve_base, home=settings.home), resume=resume)
    why = "stopped early" if result.stopped_early else "all steps done"
    Console(stderr=True).print(
        f"{folders.out}: {why} after {result.num_steps} steps; "
        f"best validation {result.best_loss:.4f} at step {result.best_step}",
        markup=False,
        soft_wrap=True,
    )


def data_folders(settings: Settings, given: Sequence[Path]) -> tuple[Path, ...]:
    """The folders of the command line, else that of the settings."""
    folders = tuple(given) or ((settings.data,) if settings.data is not None else ())
    if not folders:
        raise SettingsError("no data folder: give --data, or set POLYMATH_DATA")
    for folder in folders:
        if not folder.is_dir():
            raise SettingsError(f"the data folder {folder} does not exist")
    return folders
