"""`polymath train router` and `polymath evaluate router`: how people call them; the work is elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from server.command import ConfigOption, errors_in_a_sentence, examples, load_settings


def join(train: typer.Typer, evaluate: typer.Typer) -> None:
    """Give the two groups of commands their `router`."""
    train.command(
        "router", epilog=examples("POLYMATH_DATA=../shared/data polymath train router --out my-router")
    )(train_router)
    evaluate.command("router", epilog=examples("POLYMATH_DATA=../shared/data polymath evaluate router"))(
        evaluate_router
    )


def train_router(
    out: Annotated[Path, typer.Option(help="Folder for the trained part and its report.")],
    seed: Annotated[int | None, typer.Option(help="Seed of data and training.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over freshly laid out prompts.")] = None,
    per_intent: Annotated[int | None, typer.Option(min=1, help="Prompts of each intent in a pass.")] = None,
    finish_only: Annotated[
        bool, typer.Option("--finish-only", help="Keep the weights in --out; fit the rest again.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Train the delegator on the public data sets, and fit its temperature and thresholds on held-out sources."""
    with errors_in_a_sentence():
        settings = load_settings(config)
        from server.router_commands import train_router_command

        train_router_command(
            settings, out, seed=seed, epochs=epochs, per_intent=per_intent, finish_only=finish_only
        )


def evaluate_router(
    weights: Annotated[Path | None, typer.Option(help="Folder of the trained part.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write: this name with .json, .md and .png.")] = Path(
        "docs/router"
    ),
    baselines: Annotated[bool, typer.Option(help="Measure the baselines too; takes longer.")] = True,
    config: ConfigOption = None,
) -> None:
    """Measure the delegator on sources it never saw, out of scope, under small changes, in conversations."""
    with errors_in_a_sentence():
        settings = load_settings(config)
        from server.router_commands import evaluate_router_command

        evaluate_router_command(settings, weights, out, baselines=baselines)
