"""`polymath train`: learning, as opposed to serving. Each thing that can be trained is a sub-command.

Everything heavy is imported inside the commands, so that `--help` is there at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from server.command import ConfigOption, errors_in_a_sentence, examples, load_settings

train_app = typer.Typer(
    help="Train a specialist, or search its settings.", no_args_is_help=True, rich_markup_mode="rich"
)

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe, a TOML file.", metavar="RECIPE")]
BaseOption = Annotated[
    str | None, typer.Option(help="Base model: default, a local folder, a GGUF file, or a hub id.")
]
DataOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder with the recipe's data; may be given several times.  [dim]default: POLYMATH_DATA[/]"
    ),
]

OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the result, which must not exist.  [dim]default: runs/<recipe>[/]"),
]


@train_app.command(
    epilog=examples(
        "polymath train specialist specialists/recipes/math.toml --data ../shared/data",
        "polymath train specialist my.toml --out runs/my --resume",
    )
)
def specialist(
    recipe: RecipeArgument,
    data: DataOption = None,
    out: OutOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run where it stood.")
    ] = False,
    base: BaseOption = None,
    config: ConfigOption = None,
) -> None:
    """Train a specialist by a recipe, whatever its method: sft, distill or grpo.

    Writes checkpoint, metrics.jsonl and loss.png into <out>.run while it runs; the adapter appears at the end, whole.
    """
    with errors_in_a_sentence():
        settings = load_settings(config, {"base": base})
        from server.training import train_specialist

        train_specialist(settings, recipe, data or [], out, resume=resume)


@train_app.command(
    epilog=examples("polymath train search specialists/recipes/finance.toml --data ../shared/data")
)
def search(
    recipe: RecipeArgument,
    data: DataOption = None,
    out: OutOption = None,
    base: BaseOption = None,
    config: ConfigOption = None,
) -> None:
    """Search learning rate, rank, step size and epochs at random, as the recipe's \\[search] says.

    On a few percent of the data, cross-validated; an interrupted search goes on. Prints the settings of the best trial.
    """
    with errors_in_a_sentence():
        settings = load_settings(config, {"base": base})
        from server.training import search_specialist

        search_specialist(settings, recipe, data or [], out)
