"""The `polymath` command.

Decides how people call the server's parts and how errors look to them: one sentence on standard error, exit
code 1. Everything heavy is imported inside the commands, so that `--help` is there at once.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from server import cli_adapters, cli_router, evaluate, publish
from server.command import ConfigOption, errors_in_a_sentence, examples, load_settings
from server.train import train_app

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

app.add_typer(cli_adapters.app)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(train_app, name="train")
app.add_typer(publish.app)
cli_router.join(train_app, evaluate.app)


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
    epilog=examples(
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
    with errors_in_a_sentence():
        settings = load_settings(config, flags)
        from server.serve import serve as run

        run(settings)


@app.command(
    epilog=examples(
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
    with errors_in_a_sentence():
        settings = load_settings(config)
        from server.pull import run_pull

        run_pull(settings.home, settings.base, settings.encoder, quiet=quiet, force=force)


@app.command(
    epilog=examples(
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
    with errors_in_a_sentence():
        if (text is None) == (file is None):
            raise typer.BadParameter("give either a prompt or --file")
        settings = load_settings(config)
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
