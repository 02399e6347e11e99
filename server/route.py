"""`polymath route`: one decision by the serving code path, and its table."""

import asyncio
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from server.catalog import ManifestCatalog
from server.dispatch import AUTO, Dispatcher
from server.loading import load_delegator, one_core_thread
from server.settings import Settings

_BAR_WIDTH = 30


def route_text(settings: Settings, text: str) -> dict[str, Any]:
    """What `POST /v1/route` would answer to one user message."""
    from server.api.answers import route_body

    thread = one_core_thread("delegator")
    try:
        delegator = thread.submit(load_delegator, settings).result()
        dispatcher = Dispatcher(delegator, ManifestCatalog.read(settings), executor=thread)
        decided = asyncio.run(dispatcher.resolve(AUTO, [{"role": "user", "content": text}]))
    finally:
        thread.shutdown()
    body = route_body(decided)
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
    console.print(
        f"\n[bold]{decided['specialist']}[/] answers: {decided['reason']}, intent {decided['intent']} at "
        f"{decided['confidence']:.3f} (threshold {decided['threshold']:.3f}), "
        f"in {decided['route_ms']:.1f} ms",
        highlight=False,
    )
