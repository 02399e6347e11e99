"""`polymath train router` and `polymath evaluate router`: what they need from the settings, and how they report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from server.settings import Settings, SettingsError

_SUMMARY = ("prompts", "accuracy", "source_accuracy_mean", "macro_f1", "ece")


def train_router_command(
    settings: Settings,
    out: Path,
    *,
    seed: int | None,
    epochs: int | None,
    per_intent: int | None,
    finish_only: bool,
) -> None:
    """Trains the delegator into the folder `out`, with a bar; None takes the recipe's own value."""
    data, encoder = _data(settings), _encoder(settings)

    from router.train import TrainConfig, refinish_router, train_router

    recipe = TrainConfig()
    first = recipe.members[0].seed if seed is None else seed
    members = tuple(
        replace(member, seed=member.seed - recipe.members[0].seed + first) for member in recipe.members
    )
    dataset = replace(
        recipe.dataset, seed=first, per_intent=recipe.dataset.per_intent if per_intent is None else per_intent
    )
    fit = replace(recipe.fit, epochs=recipe.fit.epochs if epochs is None else epochs)
    config = replace(recipe, members=members, dataset=dataset, fit=fit)
    if finish_only:
        _print_summary("held_out", refinish_router(data, encoder, out, config)["held_out"])
        return
    columns = (
        TextColumn("loss {task.fields[loss]:.3f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=None, loss=0.0)
        report = train_router(
            data,
            encoder,
            out,
            config,
            lambda step, steps, loss: bar.update(task, completed=step, total=steps, loss=loss),
        )
    _print_summary("held_out", report["held_out"])


def evaluate_router_command(settings: Settings, weights: Path | None, out: Path, *, baselines: bool) -> None:
    """Measures the delegator and writes `out`.json, `out`.md and its pictures."""
    data, encoder = _data(settings), _encoder(settings)

    from router.delegator import WEIGHTS
    from router.evaluate import evaluate_router
    from router.page import write_pages

    report = evaluate_router(
        data, encoder, weights or settings.router_weights or WEIGHTS, baselines=baselines
    )
    write_pages(report, out)
    for part in ("held_out", "eval"):
        _print_summary(part, report[part])


def _data(settings: Settings) -> Path:
    if settings.data is None:
        raise SettingsError(
            "the folder of the public data sets is needed: set POLYMATH_DATA or data in the TOML file"
        )
    return settings.data


def _encoder(settings: Settings) -> Path:
    from specialists.base_model import resolve_encoder

    return resolve_encoder(settings.encoder, settings.home)


def _print_summary(name: str, measured: dict[str, Any]) -> None:
    console = Console()
    console.print(f"[bold]{name}[/] " + json.dumps({key: round(measured[key], 4) for key in _SUMMARY}))
