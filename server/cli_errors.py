"""How an error looks to whoever typed a command: one sentence on standard error, exit code 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


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
