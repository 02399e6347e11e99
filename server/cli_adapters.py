"""`polymath adapters`: the admin API from a terminal, over HTTP.

Decides the words and the tables; `admin_client.py` makes the calls.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.command import ConfigOption, errors_in_a_sentence, load_settings

if TYPE_CHECKING:
    from server.admin_client import AdminClient

app = typer.Typer(
    name="adapters",
    help="Load, look at and retire the specialists of a running server.",
    epilog="The server's address and the key come from --url and --key, else from POLYMATH_HOST, POLYMATH_PORT and "
    "POLYMATH_ADMIN_KEY.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="The specialist's name.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Address of the server.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="Admin key.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print what the server answered.")]


@app.command("list")
def list_(
    url: UrlOption = None, key: KeyOption = None, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Show every specialist: where it is, who reaches it, what it takes."""
    with _client(url, key, config) as client:
        _show(client.list(), as_json, _print_list)


@app.command()
def load(
    name: Name,
    path: Annotated[
        str | None,
        typer.Argument(help="Folder on the server's machine; without, the specialist it has in its catalog."),
    ] = None,
    upload: Annotated[
        Path | None, typer.Option("--upload", help="Send a folder or archive of this machine instead.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of one of the same name.")
    ] = False,
    expected_generation: Annotated[
        int | None, typer.Option(help="What the name must stand for now; 0 is nothing.")
    ] = None,
    intent: Annotated[str | None, typer.Option(help="Intent, instead of its manifest's.")] = None,
    description: Annotated[str | None, typer.Option(help="Description, instead of its manifest's.")] = None,
    example: Annotated[list[str] | None, typer.Option(help="A prompt of its intent; repeatable.")] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--no-pin", help="Keep it in memory.")] = None,
    allow_base_mismatch: Annotated[
        bool, typer.Option("--allow-base-mismatch", help="Even if it was trained on another base.")
    ] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Load a specialist into the running server, or replace one."""
    fields = {
        "replace": replace or None,
        "expected_generation": expected_generation,
        "intent": intent,
        "description": description,
        "examples": example,
        "pinned": pin,
        "allow_base_mismatch": allow_base_mismatch or None,
    }
    if path is not None and upload is not None:
        raise typer.BadParameter("give a PATH on the server or --upload, not both")
    with _client(url, key, config) as client:
        loaded = client.upload(name, upload, **fields) if upload else client.load(name, path, **fields)
        _show(loaded, as_json, _print_loaded)


@app.command()
def unload(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="End running answers with an error.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait for running answers.")] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Retire a specialist; answers that run may finish."""
    with _client(url, key, config) as client:
        _show(client.unload(name, force=force, timeout=timeout), as_json, _print_unloaded)


@app.command()
def pin(
    name: Name,
    url: UrlOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Keep a specialist in memory."""
    with _client(url, key, config) as client:
        _show(client.update(name, pinned=True), as_json, _print_pinned)


@app.command()
def unpin(
    name: Name,
    url: UrlOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Let a specialist give way when memory is short."""
    with _client(url, key, config) as client:
        _show(client.update(name, pinned=False), as_json, _print_pinned)


@contextmanager
def _client(url: str | None, key: str | None, config: Path | None) -> "Iterator[AdminClient]":
    from server.admin_client import AdminClient

    with errors_in_a_sentence():
        settings = load_settings(config)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        if key is None and settings.admin_key is not None:
            key = settings.admin_key.get_secret_value()
        with AdminClient(url or f"http://{host}:{settings.port}", key) as client:
            yield client


def _show(
    answer: Mapping[str, Any], as_json: bool, print_readable: Callable[[Mapping[str, Any]], None]
) -> None:
    if as_json:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print_readable(answer)


def _print_list(answer: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("name", "gen", "status", "routing", "intent", "rank", "MB", "in use", "pinned", "source"):
        table.add_column(column, justify="right" if column in ("gen", "rank", "MB", "in use") else "left")
    for entry in answer["data"]:
        table.add_row(
            escape(entry["name"]),
            _or_dash(entry["generation"]),
            entry["status"],
            entry["routing"],
            escape(entry["intent"] or "-"),
            _or_dash(entry["rank"]),
            "-" if entry["bytes"] is None else f"{entry['bytes'] / 1e6:.1f}",
            str(entry["in_flight"]),
            "yes" if entry["pinned"] else "no",
            entry["source"],
        )
    console.print(table)
    for entry in answer["data"]:
        if entry["error"]:
            console.print(f"[red]{escape(entry['name'])}[/]: {escape(entry['error'])}", soft_wrap=True)
    for old in answer["draining"]:
        name, generation = escape(old["name"]), old["generation"]
        console.print(f"{name}: generation {generation} drains, {old['in_flight']} in use")
    console.print(
        f"[dim]{answer['resident_bytes'] / 1e6:.1f} of {answer['max_resident_bytes'] / 1e6:.0f} MB in memory[/]"
    )


def _print_loaded(answer: Mapping[str, Any]) -> None:
    typer.echo(
        f"{answer['name']} is loaded as generation {answer['generation']} (rank {answer['rank']}, "
        f"{answer['bytes'] / 1e6:.1f} MB, sha256 {answer['sha256'][:12]}) after {answer['milliseconds']:.0f} ms; "
        f"routing: {answer['routing']}."
    )


def _print_pinned(answer: Mapping[str, Any]) -> None:
    typer.echo(f"{answer['name']} is {'pinned' if answer['pinned'] else 'not pinned'}.")


def _print_unloaded(answer: Mapping[str, Any]) -> None:
    if answer["status"] == "draining":
        typer.echo(f"{answer['name']} is unloaded; {answer['in_flight']} answers still run on it.")
    else:
        typer.echo(f"{answer['name']} is unloaded.")


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
