"""What the commands share: the --config option, examples in the help, and how an error looks to people.

Imports nothing heavy, as every `--help` passes here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from server.settings import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")
]


def examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  [bold]{line}[/]" for line in lines)


def load_settings(config: Path | None, flags: Mapping[str, Any] | None = None) -> "Settings":
    from server.settings import Settings

    return Settings.load(config, flags)


@contextmanager
def errors_in_a_sentence() -> Iterator[None]:
    """What is written for people goes to standard error; a bug keeps its traceback."""
    from server.errors import is_for_people

    try:
        yield
    except Exception as error:
        if not is_for_people(error):
            raise
        typer.echo(f"polymath: {error}", err=True)
        raise typer.Exit(1) from None
