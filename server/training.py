"""What `polymath train` does with the settings: folders found, a run started, its end told."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from server.settings import Settings, SettingsError
from specialists.base_model import resolve_base
from specialists.training.recipe import read_recipe
from specialists.training.run import train
from specialists.training.run_folders import Folders
from specialists.training.search import search_settings


def train_specialist(
    settings: Settings, recipe: Path, data: Sequence[Path], out: Path | None, *, resume: bool
) -> None:
    """Raises what `specialists.training.run.train` raises, and SettingsError without a data folder."""
    folders = _folders(settings, recipe, data, out)
    result = train(recipe, folders, find_model=partial(resolve_base, home=settings.home), resume=resume)
    why = "stopped early" if result.stopped_early else "all steps done"
    quality = "no validation"
    if result.best_loss is not None:
        quality = f"best validation {result.best_loss:.4f} at step {result.best_step}"
    Console(stderr=True).print(
        f"{folders.out}: {why} after {result.num_steps} steps; {quality}",
        markup=False,
        soft_wrap=True,
    )


def search_specialist(settings: Settings, recipe: Path, data: Sequence[Path], out: Path | None) -> None:
    """Raises what `specialists.training.search.search_settings` raises, and SettingsError without a data folder."""
    folders = _folders(settings, recipe, data, out)
    trials = search_settings(read_recipe(recipe), folders)
    console = Console(stderr=True)
    for trial in trials:
        console.print(
            f"loss {trial.loss:.4f}  lr {trial.lr:.2g}, rank {trial.rank}, step_tokens {trial.step_tokens}, "
            f"epochs {trial.epochs}",
            markup=False,
            soft_wrap=True,
        )
    sys.stdout.write(trials[0].settings())


def _folders(settings: Settings, recipe: Path, data: Sequence[Path], out: Path | None) -> Folders:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return Folders(
        base=resolve_base(settings.base, settings.home),
        data=data_folders(settings, data),
        out=out or Path("runs") / recipe.stem,
        kernels=settings.home / "kernels",
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
