"""`polymath route`: decisions by the serving code path, one with its table or a file of them."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from server.catalog import CatalogEntry, ManifestCatalog
from server.dispatch import AUTO, Dispatcher, Messages
from server.errors import InvalidRequestError
from server.loading import load_delegator, one_core_thread
from server.settings import Settings
from server.wishes import RoutingWishes

_BAR_WIDTH = 30
_CHUNK = 256  # conversations that are read together


def route_text(settings: Settings, text: str) -> dict[str, Any]:
    """What `POST /v1/route` would answer to one user message."""
    with _dispatcher(settings, one_core_thread("delegator")) as dispatcher:
        messages = [{"role": "user", "content": text}]
        return _body(asyncio.run(dispatcher.resolve(AUTO, messages, RoutingWishes(explain=True))))


def route_file(settings: Settings, path: Path) -> Iterator[dict[str, Any]]:
    """What `POST /v1/route` would answer to each line, without the nearest examples, with the line's number.

    Raises InvalidRequestError naming the line that cannot be read, before anything is routed.
    """
    lines = read_prompts(path)
    # On all cores, unlike in a server: nothing else computes here.
    with _dispatcher(settings, ThreadPoolExecutor(1)) as dispatcher:
        for start in range(0, len(lines), _CHUNK):
            chunk = lines[start : start + _CHUNK]
            routes = asyncio.run(dispatcher.resolve_all([messages for _, messages in chunk]))
            for (number, _), route in zip(chunk, routes, strict=True):
                body = _body(route)
                del body["nearest"], body["session"]
                yield {"line": number, **body}


def read_prompts(path: Path) -> list[tuple[int, Messages]]:
    """The conversations of a file of JSON lines, with their line numbers; blank lines are skipped.

    A line is a string, an object with `text` or `prompt`, or one with `messages` as in a chat request. Raises
    InvalidRequestError naming file and line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror or error}") from error
    found = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                found.append((number, _messages(line)))
            except ValueError as error:
                raise InvalidRequestError(f"{path} line {number}: {error}") from error
    return found


def _messages(line: bytes) -> Messages:
    from pydantic import ValidationError

    from server.api.schemas import RouteRequest

    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start + 1}") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}; expected a string or an object")
    text = value.get("text", value.get("prompt"))
    if isinstance(text, str):
        return [{"role": "user", "content": text}]
    if "messages" not in value:
        raise ValueError("has none of text, prompt and messages, or its text is not a string")
    try:
        request = RouteRequest.model_validate({"messages": value["messages"]})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(item) for item in problem["loc"] if not str(item).startswith("@"))
        raise ValueError(f"{place}: {problem['msg']}") from error
    return [message.to_prompt() for message in request.messages]


@contextmanager
def _dispatcher(settings: Settings, executor: Executor) -> Iterator[Dispatcher[CatalogEntry]]:
    try:
        delegator = executor.submit(load_delegator, settings).result()
        yield Dispatcher(delegator, ManifestCatalog.read(settings), executor=executor)
    finally:
        executor.shutdown()


def _body(route: Any) -> dict[str, Any]:
    from server.api.answers import route_body

    body = route_body(route)
    del body["generation"]  # of something loaded, and nothing is
    return body


def print_route(decided: Mapping[str, Any]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column("intent")
    table.add_column("probability", justify="right")
    table.add_column("")
    scores = sorted(decided["scores"].items(), key=lambda item: item[1], reverse=True)
    for intent, score in scores:
        style = "bold" if intent == decided["intent"] else ""
        table.add_row(intent, f"{score:.3f}", "█" * round(score * _BAR_WIDTH), style=style)
    console.print(table)
    _print_nearest(console, decided["nearest"])
    console.print(
        f"\n[bold]{decided['specialist']}[/] answers: {decided['reason']}, intent {decided['intent']} at "
        f"{decided['confidence']:.3f} (threshold {decided['threshold']:.3f}, margin {decided['margin']:.3f}), "
        f"in {decided['route_ms']:.1f} ms",
        highlight=False,
    )


def _print_nearest(console: Console, nearest: Sequence[Mapping[str, Any]]) -> None:
    if not nearest:
        return
    console.print("\nnearest examples:", highlight=False)
    for example in nearest:
        text = " ".join(example["text"].split())
        shown = text if len(text) <= 70 else text[:69] + "…"
        console.print(
            f"  {example['similarity']:.2f}  {example['intent']:<12} {shown}", highlight=False, markup=False
        )
