"""What a loaded server consists of.

Plain data; `loading.py` builds it, `lifecycle.py` says when it is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.dispatch import Dispatcher
from server.settings import Settings

if TYPE_CHECKING:  # these import torch, and the server must answer /health before that has happened
    from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
    from specialists.engine.async_engine import AsyncEngine
    from specialists.tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a request needs. `refused` maps specialists that could not be loaded to the reason."""

    settings: Settings
    base_id: str
    fingerprint: str
    created: int  # seconds since the epoch
    tokenizer: "ChatTokenizer"
    registry: "AdapterRegistry"
    engine: "AsyncEngine"
    dispatcher: "Dispatcher[LoadedAdapter]"
    refused: Mapping[str, str]

    @property
    def is_healthy(self) -> bool:
        return self.engine.is_alive

    def close(self) -> None:
        """Stop the engine and the delegator; what still runs ends with an error."""
        self.dispatcher.close()
        self.engine.shutdown()
