"""`polymath publish` and `polymath merge`: from trained folders to the catalog, and from several adapters to one.

Everything heavy is imported inside the commands, so that `--help` is there at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from server.command import ConfigOption, errors_in_a_sentence, examples, load_settings

app = typer.Typer(rich_markup_mode="rich")


@app.command(
    epilog=examples(
        "polymath publish runs/finance --data ../shared/data",
        "polymath publish runs/finance --gate specialists/recipes/finance.toml --reports runs/reports",
    )
)
def publish(
    folder: Annotated[Path, typer.Argument(help="What `polymath train specialist` wrote.", metavar="FOLDER")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the public data sets.  [dim]default: POLYMATH_DATA[/]")
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(help="Recipe whose \\[gate] decides.  [dim]default: the folder's own recipe[/]"),
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(
            help="Markdown on data and method.  [dim]default: specialists/recipes/<name>.about.md[/]"
        ),
    ] = None,
    reports: Annotated[
        Path | None, typer.Option(help="Folder of the reports.  [dim]default: <folder>.reports[/]")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Measure a specialist beside the base and, when the gate lets it pass, put it into the catalog.

    It must gain on its own domain (the lower end of the paired bootstrap above zero) and lose no more than the tolerance
    elsewhere. Interrupted, it goes on where it stood; refused, the catalog stays as it was.
    """
    with errors_in_a_sentence():
        settings = load_settings(config, {"data": data})
        from server.publishing import publish_specialist

        publish_specialist(settings, folder, gate, about, reports)


@app.command(
    epilog=examples(
        "polymath merge specialists/catalog/math specialists/catalog/code --name generalist --method dare_ties",
        "polymath merge runs/a runs/b --name both --method svd --rank 16 --weight 0.7 --weight 0.3",
    )
)
def merge(
    folders: Annotated[list[Path], typer.Argument(help="The adapters, two or more.", metavar="FOLDER...")],
    name: Annotated[str, typer.Option(help="Name of the merged adapter.")],
    method: Annotated[str, typer.Option(help="linear, ties, dare_ties or svd.")] = "ties",
    weight: Annotated[
        list[float] | None,
        typer.Option(help="One for each adapter, in order.  [dim]default: equal shares[/]"),
    ] = None,
    density: Annotated[float, typer.Option(help="Share of each adapter's changes that ties keeps.")] = 0.5,
    rank: Annotated[int | None, typer.Option(help="Rank of the result, for svd.")] = None,
    seed: Annotated[int, typer.Option(help="Of what dare_ties drops.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Folder to write.  [dim]default: runs/<name>[/]")] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model: default, a local folder, a GGUF file, or a hub id.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Merge adapters into one that the engine serves like any other."""
    with errors_in_a_sentence():
        settings = load_settings(config, {"base": base})
        from server.publishing import merge_specialists
        from specialists.merge import MergePlan

        plan = MergePlan(
            name=name,
            method=method,  # type: ignore[arg-type]
            weights=tuple(weight or ()),
            density=density,
            rank=rank,
            seed=seed,
        )
        merge_specialists(settings, folders, plan, out)
