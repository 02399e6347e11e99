"""The `polymath` command.

Decides how people call the server's parts and how errors look to them: one sentence on standard error, exit
code 1. Everything heavy is imported inside the commands, so that `--help` is there at once.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from server.settings import Settings

app = typer.Typer(
    name="polymath",
    help="Many small specialists served as one model: a BERT delegator reads each prompt, and one base model "
    "answers with the adapter of the specialist whose domain it is, behind an OpenAI-compatible API.",
    epilog="Every setting is also an environment variable (POLYMATH_PORT=9000) and a key of the TOML file of "
    "--config (port = 9000). Flags win over variables, variables over the file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

train_app = typer.Typer(help="Train the parts.", no_args_is_help=True, rich_markup_mode="rich")
evaluate_app = typer.Typer(help="Measure the parts.", no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")
]


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  [bold]{line}[/]" for line in lines)


def main() -> None:
    """The entry point of the `polymath` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"polymath {version('polymath')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command(
    epilog=_examples(
        "polymath serve",
        "polymath serve --port 9000 --config polymath.toml",
        "POLYMATH_API_KEYS=secret polymath serve --host 0.0.0.0",
    )
)
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.  [dim]default: 127.0.0.1[/]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  [dim]default: 8000[/]")] = None,
    config: ConfigOption = None,
    base: Annotated[
        str | None, typer.Option(help="Base model: default, a local folder, a GGUF file, or a hub id.")
    ] = None,
    adapter_folder: Annotated[
        Path | None, typer.Option(help="One more folder of specialists, a sub-folder each.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.  [dim]default: info[/]")
    ] = None,
) -> None:
    """Serve the API. The weights must have been fetched once with `polymath pull`.

    It listens at once, and says when everything is loaded; until then /ready answers 503. Ctrl-C and SIGTERM
    let running answers finish before the process ends.
    """
    flags = {
        "host": host,
        "port": port,
        "base": base,
        "adapter_folder": adapter_folder,
        "log_level": log_level,
    }
    with _errors_in_a_sentence():
        settings = _settings(config, flags)
        from server.serve import serve as run

        run(settings)


@app.command(
    epilog=_examples(
        "polymath pull",
        "POLYMATH_HOME=/big/disk polymath pull",
        "POLYMATH_BASE=Qwen/Qwen2.5-1.5B-Instruct polymath pull",
    )
)
def pull(
    config: ConfigOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bars, and nothing about what is there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch and import again.")] = False,
) -> None:
    """Fetch, verify and import the base model and the delegator's encoder, once.

    Resumes after an interruption, and uses nothing whose sha256 does not match.
    """
    with _errors_in_a_sentence():
        settings = _settings(config)
        from server.pull import run_pull

        run_pull(settings.home, settings.base, settings.encoder, quiet=quiet, force=force)


@app.command(
    epilog=_examples(
        'polymath route "Tom has 3 boxes of 12 pencils and gives away 9 pencils. How many are left?"',
        'polymath route "Write a sort in Python" --json | jq .intent',
        "polymath route --file prompts.jsonl > decisions.jsonl",
    )
)
def route(
    text: Annotated[str | None, typer.Argument(help="The prompt to route.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="JSON lines, each a string or an object with text or messages; prints JSON lines."),
    ] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what POST /v1/route would answer.")] = False,
) -> None:
    """Say which specialist would answer a prompt, and how sure the delegator is. Loads no base model."""
    with _errors_in_a_sentence():
        if (text is None) == (file is None):
            raise typer.BadParameter("give either a prompt or --file")
        settings = _settings(config)
        from server.route import print_route, route_file, route_text

        if text is None:
            assert file is not None
            for line in route_file(settings, file):
                typer.echo(json.dumps(line, ensure_ascii=False))
            return
        decided = route_text(settings, text)
        if as_json:
            typer.echo(json.dumps(decided, indent=2, ensure_ascii=False))
        else:
            print_route(decided)


@train_app.command(
    "router", epilog=_examples("POLYMATH_DATA=../shared/data polymath train router --out my-router")
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
    with _errors_in_a_sentence():
        settings = _settings(config)
        from server.router_commands import train_router_command

        train_router_command(
            settings, out, seed=seed, epochs=epochs, per_intent=per_intent, finish_only=finish_only
        )


@evaluate_app.command("router", epilog=_examples("POLYMATH_DATA=../shared/data polymath evaluate router"))
def evaluate_router(
    weights: Annotated[Path | None, typer.Option(help="Folder of the trained part.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write: this name with .json, .md and .png.")] = Path(
        "docs/router"
    ),
    baselines: Annotated[bool, typer.Option(help="Measure the baselines too; takes longer.")] = True,
    config: ConfigOption = None,
) -> None:
    """Measure the delegator on sources it never saw, out of scope, under small changes, in conversations."""
    with _errors_in_a_sentence():
        settings = _settings(config)
        from server.router_commands import evaluate_router_command

        evaluate_router_command(settings, weights, out, baselines=baselines)


def _settings(config: Path | None, flags: Mapping[str, Any] | None = None) -> "Settings":
    from server.settings import Settings

    return Settings.load(config, flags)


@contextmanager
def _errors_in_a_sentence() -> Iterator[None]:
    """What is written for people goes to standard error; a bug keeps its traceback."""
    from server.errors import is_for_people

    try:
        yield
    except Exception as error:
        if not is_for_people(error):
            raise
        typer.echo(f"polymath: {error}", err=True)
        raise typer.Exit(1) from None
