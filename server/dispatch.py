"""From a request's `model` and messages to the specialist that answers.

Decides which adapter serves a request, and holds it for exactly as long as the request lives. The delegator
decides the intent; which specialist serves an intent is what the loaded manifests say. An unknown name is
an error, never the base.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from router.decision import RoutingDecision, RoutingOptions, RoutingReason
from router.intents import GENERAL
from server.errors import InvalidRequestError, ModelNotFoundError, SpecialistUnavailableError
from server.wishes import NO_WISHES, RoutingWishes
from specialists.adapters.errors import AdapterError
from specialists.manifest import SpecialistManifest

AUTO = "auto"
BASE = "base"
NO_INTENT = "none"  # of a specialist that declares none and was asked for by name
BASE_GENERATION = 0

logger = logging.getLogger(__name__)

Messages: TypeAlias = Sequence[Mapping[str, Any]]


class Specialist(Protocol):
    """What dispatching needs to know of an adapter; `LoadedAdapter` is one."""

    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def manifest(self) -> SpecialistManifest: ...
    @property
    def is_resident(self) -> bool: ...


SpecialistT = TypeVar("SpecialistT", bound=Specialist)


class Registry(Protocol[SpecialistT]):
    """Specialists by name; `get` and `acquire` raise KeyError for a name that is not loaded.

    `ensure_resident` blocks until an acquired specialist is in memory; raises AdapterError when it cannot be.
    """

    def routable_names(self) -> Collection[str]: ...
    def get(self, name: str, /) -> SpecialistT: ...
    def acquire(self, name: str, /) -> SpecialistT: ...
    def ensure_resident(self, specialist: SpecialistT, /) -> None: ...
    def release(self, specialist: SpecialistT, /) -> None: ...


class Delegator(Protocol):
    """Who reads the messages; `router.delegator.Delegator` is one."""

    def route(self, messages: Messages, options: RoutingOptions, /) -> RoutingDecision: ...
    def route_many(
        self, conversations: Sequence[Messages], options: RoutingOptions, /
    ) -> list[RoutingDecision]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[SpecialistT]):
    """Who answers (None: the base) and how that came about."""

    adapter: SpecialistT | None
    decision: RoutingDecision

    @property
    def specialist(self) -> str:
        return BASE if self.adapter is None else self.adapter.name

    @property
    def generation(self) -> int:
        return BASE_GENERATION if self.adapter is None else self.adapter.generation


class Dispatcher(Generic[SpecialistT]):
    """Resolves requests to specialists, and counts them in and out of the registry.

    `executor` is where the delegator reads; `loaders` are the threads that bring specialists back into memory. `close`
    ends both.
    """

    def __init__(
        self,
        delegator: Delegator,
        registry: Registry[SpecialistT],
        base_names: Collection[str] = (),
        executor: Executor | None = None,
        loaders: Executor | None = None,
    ) -> None:
        self._delegator = delegator
        self._registry = registry
        self._base_names = frozenset({BASE, *base_names})
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="delegator")
        self._loaders = loaders or ThreadPoolExecutor(thread_name_prefix="loader")
        # By generation: several requests wait for one read.
        self._returning: dict[int, asyncio.Future[None]] = {}

    async def resolve(
        self, model: str, messages: Messages, wishes: RoutingWishes = NO_WISHES
    ) -> Route[SpecialistT]:
        """Say who would answer, without holding it or noting it in the session.

        Raises ModelNotFoundError, and InvalidRequestError for candidates that cannot be chosen.
        """
        decision = await self._decide(model, messages, wishes, remember=False)
        return self._settle(model, decision, self._registry.get, wishes)

    async def resolve_all(self, conversations: Sequence[Messages]) -> list[Route[SpecialistT]]:
        """Say who would answer each of many conversations, as `resolve` says it of one."""
        options = self._options(AUTO, NO_WISHES, remember=False)
        loop = asyncio.get_running_loop()
        decisions = await loop.run_in_executor(
            self._executor, self._delegator.route_many, conversations, options
        )
        return [self._settle(AUTO, decision, self._registry.get, NO_WISHES) for decision in decisions]

    @asynccontextmanager
    async def admit(
        self, model: str, messages: Messages, wishes: RoutingWishes = NO_WISHES
    ) -> AsyncIterator[Route[SpecialistT]]:
        """Resolve, and hold the specialist, in memory, until the block is left, however it is left.

        Raises what `resolve` raises; SpecialistUnavailableError when it cannot be brought back into memory.
        """
        decision = await self._decide(model, messages, wishes, remember=True)
        # No await between taking the adapter and the try, so a cancellation cannot fall in between.
        route = self._settle(model, decision, self._registry.acquire, wishes)
        try:
            if route.adapter is not None and not route.adapter.is_resident:
                await self._bring_back(route.adapter)
            yield route
        finally:
            if route.adapter is not None:
                self._registry.release(route.adapter)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._loaders.shutdown(wait=False, cancel_futures=True)

    async def _bring_back(self, specialist: SpecialistT) -> None:
        """Wait until an evicted specialist is in memory again; one read serves all that wait for it."""
        returning = self._returning.get(specialist.generation)
        if returning is None:
            loop = asyncio.get_running_loop()
            returning = loop.run_in_executor(self._loaders, self._registry.ensure_resident, specialist)
            self._returning[specialist.generation] = returning
            returning.add_done_callback(lambda done: self._note_returned(specialist.generation, done))
        try:
            await asyncio.shield(returning)  # whoever goes away, the others still wait
        except AdapterError as error:
            raise SpecialistUnavailableError(specialist.name, error.code) from error

    def _note_returned(self, generation: int, done: "asyncio.Future[None]") -> None:
        del self._returning[generation]
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error("a specialist could not be brought back: %s", error)

    async def _decide(
        self, model: str, messages: Messages, wishes: RoutingWishes, *, remember: bool
    ) -> RoutingDecision | None:
        """Ask the delegator, off the event loop; None when the client named the model."""
        options = self._options(model, wishes, remember=remember)
        if model != AUTO:
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._delegator.route, messages, options)

    def _options(self, model: str, wishes: RoutingWishes, *, remember: bool) -> RoutingOptions:
        """The wishes in the delegator's words. Raises InvalidRequestError for candidates that cannot be chosen."""
        candidates = None
        if wishes.candidates is not None:
            if model != AUTO:
                raise _bad_candidates(f"may only be given with model {AUTO!r}, not with {model!r}")
            candidates = frozenset(self._intent_of(name) for name in wishes.candidates)
        return RoutingOptions(
            candidates=candidates,
            session=wishes.session,
            user=wishes.user,
            explain=wishes.explain,
            remember=remember,
        )

    def _intent_of(self, name: str) -> str:
        if name in self._base_names:
            return GENERAL
        try:
            intent = self._registry.get(name).manifest.intent
        except KeyError:
            raise _bad_candidates(f"{name!r} is not loaded") from None
        if intent is None:
            raise _bad_candidates(f"{name!r} has no intent, so nothing is routed to it")
        return intent

    def _settle(
        self,
        model: str,
        decision: RoutingDecision | None,
        take: Callable[[str], SpecialistT],
        wishes: RoutingWishes,
    ) -> Route[SpecialistT]:
        if decision is None:
            return self._settle_requested(model, take)
        if not decision.accepted or decision.intent == GENERAL:
            return Route(adapter=None, decision=decision)
        name = self.serving(decision.intent, wishes.candidates)
        try:
            adapter = None if name is None else take(name)
        except KeyError:
            adapter = None  # unloaded since we looked
        if adapter is None:
            decision = replace(decision, reason=RoutingReason.NO_SPECIALIST)
        return Route(adapter=adapter, decision=decision)

    def _settle_requested(self, model: str, take: Callable[[str], SpecialistT]) -> Route[SpecialistT]:
        if model in self._base_names:
            return Route(adapter=None, decision=_requested(GENERAL))
        try:
            adapter = take(model)
        except KeyError:
            raise ModelNotFoundError(model) from None
        return Route(adapter=adapter, decision=_requested(adapter.manifest.intent or NO_INTENT))

    def serving(self, intent: str, candidates: Collection[str] | None = None) -> str | None:
        """The routable specialist of an intent; of several, the first by name, so that the choice is stable."""
        for name in sorted(self._registry.routable_names()):
            if candidates is not None and name not in candidates:
                continue
            try:
                manifest = self._registry.get(name).manifest
            except KeyError:
                continue  # unloaded since we listed it
            if manifest.intent == intent:
                return name
        return None


def _bad_candidates(problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"polymath.candidates: {problem}", param="polymath.candidates")


def _requested(intent: str) -> RoutingDecision:
    """The decision of a client that chose by itself: certain, and nothing was classified."""
    return RoutingDecision(
        intent=intent,
        confidence=1.0,
        accepted=True,
        reason=RoutingReason.REQUESTED,
        scores={},
        threshold=0.0,
        route_ms=0.0,
    )
