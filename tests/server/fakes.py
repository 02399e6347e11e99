"""Stand-ins for what a test must be able to break or hold still; everything else in these tests is real."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from router.decision import NearestExample, RoutingDecision, RoutingOptions, RoutingReason, SessionState
from specialists.engine.output import FinishReason, RequestOutput
from specialists.engine.sampling_params import SamplingParams
from specialists.manifest import SpecialistManifest

Messages = Sequence[Mapping[str, Any]]

INTENTS = ("math", "code", "spanish", "general")
_KEYWORDS = {"times": "math", "python": "code", "hola": "spanish"}


@dataclass(frozen=True, slots=True)
class FakeSpecialist:
    name: str
    generation: int
    manifest: SpecialistManifest
    is_resident: bool = True


class CountingRegistry:
    """Specialists in memory; fails the test when one is released that was not held."""

    def __init__(self, intents: Mapping[str, str | None]) -> None:
        self.entries = {
            name: FakeSpecialist(name, index, SpecialistManifest(name=name, intent=intent))
            for index, (name, intent) in enumerate(intents.items(), start=1)
        }
        self.held: Counter[str] = Counter()
        self.num_acquired = 0
        self.on_acquire: Callable[[], None] = lambda: None
        self.on_return: Callable[[FakeSpecialist], None] = lambda _: None
        self.unroutable: set[str] = set()

    def names(self) -> list[str]:
        return sorted(self.entries)

    def statuses(self) -> list[Any]:
        return []

    def routable_names(self) -> list[str]:
        return sorted(self.entries.keys() - self.unroutable)

    def ensure_resident(self, specialist: FakeSpecialist) -> None:
        self.on_return(specialist)

    def get(self, name: str) -> FakeSpecialist:
        return self.entries[name]

    def acquire(self, name: str) -> FakeSpecialist:
        specialist = self.entries[name]
        self.held[name] += 1
        self.num_acquired += 1
        self.on_acquire()
        return specialist

    def release(self, specialist: FakeSpecialist) -> None:
        assert self.held[specialist.name] > 0, f"{specialist.name} released twice"
        self.held[specialist.name] -= 1

    @property
    def num_held(self) -> int:
        return self.held.total()


class FakeRoster:
    """Nothing to administer."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.observe: Any = None

    def start(self, refresh_seconds: float) -> None:
        """Nobody else changes anything."""

    def close(self) -> None:
        """Nothing is open."""


class KeywordDelegator:
    """Routes by a word in the last user message: predictable, and synchronous as the real one."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.options: list[RoutingOptions] = []

    def route(self, messages: Messages, options: RoutingOptions = RoutingOptions()) -> RoutingDecision:  # noqa: B008
        if self.error is not None:
            raise self.error
        self.options.append(options)
        decision = self._by_word(messages)
        if options.candidates is not None and decision.intent not in {*options.candidates, "general"}:
            decision = decide("general", 0.9, RoutingReason.OUT_OF_SCOPE)
        if options.explain:
            nearest = NearestExample(text="2 times 3", intent="math", similarity=0.75)
            decision = replace(decision, nearest=(nearest,))
        if options.session is not None:
            decision = replace(decision, session=SessionState(intent="math", turns=2))
        return decision

    def route_many(self, conversations: Sequence[Messages], options: RoutingOptions) -> list[RoutingDecision]:
        return [self.route(messages, options) for messages in conversations]

    def _by_word(self, messages: Messages) -> RoutingDecision:
        users = [message["content"] for message in messages if message["role"] == "user"]
        text = users[-1].lower() if users else ""
        if not text.strip():
            return decide("general", 0.0, RoutingReason.EMPTY)
        for word, intent in _KEYWORDS.items():
            if word in text:
                return decide(intent, 0.9)
        if "perhaps" in text:
            return decide("math", 0.3, RoutingReason.LOW_CONFIDENCE)
        return decide("general", 0.8)


def decide(
    intent: str, confidence: float, reason: RoutingReason = RoutingReason.CONFIDENT
) -> RoutingDecision:
    rest = (1 - confidence) / (len(INTENTS) - 1)
    scores = {name: confidence if name == intent else rest for name in INTENTS}
    return RoutingDecision(
        intent=intent,
        confidence=confidence,
        accepted=reason is RoutingReason.CONFIDENT,
        reason=reason,
        scores={} if reason is RoutingReason.EMPTY else scores,
        threshold=0.5,
        route_ms=1.5,
    )


class FakeTokenizer:
    """A token for each word."""

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return [0] * sum(len(message["content"].split()) for message in messages)


@dataclass
class ScriptedEngine:
    """AsyncEngine's interface, saying `words`; with a `gate` it says one word for each permit.

    `fault` is raised after `fault_after` words. Counts what was begun and what was aborted.
    """

    words: Sequence[str] = ("one ", "two ", "three")
    fault: Exception | None = None
    fault_after: int = 0
    gate: asyncio.Semaphore | None = None
    max_model_len: int = 64
    is_alive: bool = True
    error: str | None = None
    finish: FinishReason = FinishReason.STOP
    params: list[SamplingParams] = field(default_factory=list)
    adapters: list[Any] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    aborted: list[str] = field(default_factory=list)
    is_started: bool = False
    is_shut_down: bool = False

    def start(self) -> None:
        self.is_started = True

    def shutdown(self) -> None:
        self.is_shut_down = True

    async def generate(
        self, request_id: str, prompt_ids: Sequence[int], params: SamplingParams, adapter: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        self.params.append(params)
        self.adapters.append(adapter)
        assert request_id not in self.running
        self.running.add(request_id)
        is_finished = False
        try:
            for index, word in enumerate(self.words):
                if self.fault is not None and index >= self.fault_after:
                    raise self.fault
                if self.gate is not None:
                    await self.gate.acquire()
                else:
                    await asyncio.sleep(0)
                is_last = index == len(self.words) - 1
                is_finished = is_last
                yield RequestOutput(
                    request_id=request_id,
                    text=word,
                    token_ids=(index,),
                    finish_reason=self.finish if is_last else None,
                    num_prompt_tokens=len(prompt_ids),
                    num_completion_tokens=index + 1,
                    error="scripted" if is_last and self.finish is FinishReason.FAILED else None,
                )
            if self.fault is not None:
                raise self.fault
        finally:
            self.running.discard(request_id)
            if not is_finished:
                self.aborted.append(request_id)


class FixedIntents:
    """The intents of a delegator that learns nothing."""

    def __init__(self, intents: Collection[str]) -> None:
        self._intents = frozenset(intents)

    def knows(self, intent: str, /) -> bool:
        return intent in self._intents

    def add(self, intent: str, description: str, examples: Sequence[str], /) -> str | None:
        return None if intent in self._intents else f"the delegator does not know the intent {intent!r}"

    def remove(self, intent: str, /) -> None:
        """Nothing was learned."""
