"""What a loaded server consists of.

Plain data; `loading.py` builds it, `lifecycle.py` says when it is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.dispatch import Dispatcher
from server.settings import Settings

if TYPE_CHECKING:  # these import torch, and the server must answer /health before that has happened
    from server.roster import Roster
    from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
    from specialists.engine.async_engine import AsyncEngine
    from specialists.tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a request needs."""

    settings: Settings
    base_id: str
    fingerprint: str
    created: int  # seconds since the epoch
    tokenizer: "ChatTokenizer"
    registry: "AdapterRegistry"
    engine: "AsyncEngine"
    dispatcher: "Dispatcher[LoadedAdapter]"
    roster: "Roster"

    @property
    def refused(self) -> Mapping[str, str]:
        """Specialists that should be here and could not be loaded, with the reason."""
        return self.roster.refused

    @property
    def is_healthy(self) -> bool:
        return self.engine.is_alive

    def start(self) -> None:
        """From now on requests may come."""
        self.engine.start()
        self.roster.start(self.settings.refresh_seconds)

    def close(self) -> None:
        """Stop the engine, the delegator and the roster; what still runs ends with an error."""
        self.dispatcher.close()
        self.engine.shutdown()
        self.roster.close()
