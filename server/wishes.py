"""What a request may wish of its routing, in clients' words: specialists' names where the delegator knows intents."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingWishes:
    """`candidates` are the names to choose from (None: all). See `router.decision.RoutingOptions` for the others."""

    candidates: tuple[str, ...] | None = None
    session: str | None = None
    user: str | None = None
    explain: bool = False


NO_WISHES = RoutingWishes()
