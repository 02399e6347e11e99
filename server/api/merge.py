"""Several engine streams as one, in the order their outputs come.

Decides nothing; holds the tasks that read the streams, and ends them with the block.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

from specialists.engine.output import RequestOutput

Indexed: TypeAlias = tuple[int, RequestOutput]


@asynccontextmanager
async def merged(
    streams: Sequence[AsyncIterator[RequestOutput]],
) -> AsyncIterator[AsyncIterator[Indexed]]:
    """The outputs of all streams, each with its stream's index. Leaving the block closes every stream.

    The first failure of a stream is raised to the reader.
    """
    if len(streams) == 1:  # almost every request: no task, no queue
        async with _closing(streams[0]) as only, aclosing(_numbered(only)) as numbered:
            yield numbered
        return
    news: asyncio.Queue[Indexed | Exception | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_pump(index, stream, news)) for index, stream in enumerate(streams)]
    try:
        async with aclosing(_read(news, len(tasks))) as outputs:
            yield outputs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _closing(stream: AsyncIterator[RequestOutput]) -> aclosing[AsyncGenerator[RequestOutput, Any]]:
    """Closing a stream early is what aborts its request in the engine."""
    assert isinstance(stream, AsyncGenerator)
    return aclosing(stream)


async def _numbered(stream: AsyncIterator[RequestOutput]) -> AsyncGenerator[Indexed, None]:
    async for output in stream:
        yield 0, output


async def _pump(
    index: int,
    stream: AsyncIterator[RequestOutput],
    news: "asyncio.Queue[Indexed | Exception | None]",
) -> None:
    try:
        async with _closing(stream):
            async for output in stream:
                news.put_nowait((index, output))
    except Exception as error:
        news.put_nowait(error)
    else:
        news.put_nowait(None)


async def _read(
    news: "asyncio.Queue[Indexed | Exception | None]", num_open: int
) -> AsyncGenerator[Indexed, None]:
    while num_open:
        item = await news.get()
        if isinstance(item, Exception):
            raise item
        if item is None:
            num_open -= 1
        else:
            yield item
