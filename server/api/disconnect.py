"""Ends the work for a client that has gone away.

Decides nothing about what is undone: it cancels the task, and every `async with` on the way out undoes its
own part.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from server.errors import ClientDisconnectedError


@asynccontextmanager
async def abort_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Run the block while the client is there; raises ClientDisconnectedError when it leaves before the end.

    The request's body must have been read. The block must end before the last part of the answer is sent:
    from then on servers report a disconnect for every client.
    """
    task = asyncio.current_task()
    assert task is not None
    is_gone = False

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # Our own cancellation becomes an exception; one from outside (server shutdown) stays what it is.
        if is_gone and task.uncancel() == 0:
            raise ClientDisconnectedError from None
        raise
    finally:
        watcher.cancel()
