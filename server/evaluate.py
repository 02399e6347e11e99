"""`polymath evaluate`: how well the base, a specialist or the routed ensemble answers, from the command line.

Decides names, defaults and what is printed; `measuring.py` does the work and is imported inside the commands.
"""

from pathlib import Path
from typing import Annotated

import typer

from server.command import ConfigOption, errors_in_a_sentence, examples, load_settings

app = typer.Typer(
    help="Measure on public tasks: a specialist, the base, the routed ensemble.", no_args_is_help=True
)

TaskOption = Annotated[
    list[str] | None,
    typer.Option("--task", help="A task's name; may be repeated.  [dim]default: the subject's own domain[/]"),
]
SplitOption = Annotated[str, typer.Option(help="test, or val of the training rows.")]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="So many items of each task, drawn with the seed.")
]
SeedOption = Annotated[int, typer.Option(help="Of the sample, the bootstrap and the stress test.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the reports; a run that was ended goes on there.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Folder of the public sets.  [dim]default: the setting data[/]")
]
UrlOption = Annotated[
    str | None, typer.Option(help="Ask this OpenAI-compatible server instead of an engine of our own.")
]
StressOption = Annotated[
    bool, typer.Option("--stress", help="Also with items rewritten without changing what is right.")
]
ReuseOption = Annotated[
    bool,
    typer.Option("--reuse", help="Take answers that the chosen specialist already gave alone from --out."),
]
TokensOption = Annotated[
    int | None, typer.Option(min=1, help="Longest answer in tokens.  [dim]default: the task's own[/]")
]
OUT = Path("runs/evaluations")


@app.command(
    epilog=examples(
        "polymath evaluate specialist math",
        "polymath evaluate specialist base --task winogrande --task tatqa",
        "polymath evaluate specialist runs/finance --task tatqa --split val --limit 100",
        "polymath evaluate specialist base --url http://localhost:8000 --task gsm8k",
    )
)
def specialist(
    name: Annotated[str, typer.Argument(help="A specialist of the catalog, an adapter's folder, or base.")],
    task: TaskOption = None,
    split: SplitOption = "test",
    limit: LimitOption = None,
    seed: SeedOption = 20,
    out: OutOption = OUT,
    data: DataOption = None,
    url: UrlOption = None,
    stress: StressOption = False,
    max_new_tokens: TokensOption = None,
    base: Annotated[str | None, typer.Option(help="Another base, such as teacher.")] = None,
    config: ConfigOption = None,
) -> None:
    """Measure one specialist, or the base without any: all tasks of its domain, or those named."""
    with errors_in_a_sentence():
        settings = load_settings(config, {"base": base, "data": data})
        from server.measuring import Plan, measure, open_specialist

        plan = Plan(tasks=tuple(task or ()), split=split, limit=limit, seed=seed, out=out, stress=stress,
                    max_new_tokens=max_new_tokens)  # fmt: skip
        measure(settings, plan, open_specialist(settings, name, url))


@app.command(
    epilog=examples(
        "polymath evaluate ensemble --limit 100",
        "polymath evaluate ensemble --reuse",
        "polymath evaluate ensemble --task gsm8k --url http://localhost:8000",
    )
)
def ensemble(
    task: TaskOption = None,
    split: SplitOption = "test",
    limit: LimitOption = None,
    seed: SeedOption = 20,
    out: OutOption = OUT,
    data: DataOption = None,
    url: UrlOption = None,
    stress: StressOption = False,
    reuse: ReuseOption = False,
    max_new_tokens: TokensOption = None,
    config: ConfigOption = None,
) -> None:
    """Measure the whole: the delegator reads each prompt, and the specialist it chooses answers."""
    with errors_in_a_sentence():
        settings = load_settings(config, {"data": data})
        from server.measuring import Plan, measure, open_ensemble

        plan = Plan(tasks=tuple(task or ()), split=split, limit=limit, seed=seed, out=out, stress=stress,
                    max_new_tokens=max_new_tokens)  # fmt: skip
        measure(settings, plan, open_ensemble(settings, url, out if reuse else None))
