"""One generation, from a validated request to a stream of engine outputs, with everything it holds.

Decides how long an answer may be and which engine requests it takes. Whatever ends the block (an answer, a
refusal, a disconnect, a dying engine) leaves nothing behind: engine requests are aborted and the specialist
is released, once.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from server.api.merge import Indexed, merged
from server.api.schemas import ChatCompletionRequest
from server.dispatch import Route
from server.errors import (
    ContextLengthError,
    GenerationError,
    InvalidRequestError,
    OverloadedError,
    SpecialistUnloadedError,
    UnavailableError,
)
from server.metrics import RequestObservation
from server.services import Services
from server.wishes import RoutingWishes
from specialists.engine.output import FinishReason, RequestOutput
from specialists.engine.sampling_params import SamplingParams

if TYPE_CHECKING:
    from specialists.adapters.registry import LoadedAdapter

logger = logging.getLogger(__name__)

_SEEDS = 2**63


@dataclass(slots=True)
class Usage:
    """Tokens of one request, over all its choices."""

    prompt_tokens: int
    cached_tokens: int = 0
    by_choice: dict[int, int] = field(default_factory=dict)

    @property
    def completion_tokens(self) -> int:
        return sum(self.by_choice.values())

    def note(self, index: int, output: RequestOutput) -> None:
        self.by_choice[index] = output.num_completion_tokens
        self.cached_tokens = max(self.cached_tokens, output.num_cached_tokens)


@dataclass(frozen=True, slots=True)
class Generation:
    """A request under way: who answers, and its outputs as (choice, what is new)."""

    route: "Route[LoadedAdapter]"
    usage: Usage
    outputs: AsyncIterator[Indexed]


@asynccontextmanager
async def start_generation(
    services: Services,
    request: ChatCompletionRequest,
    wishes: RoutingWishes,
    request_id: str,
    observed: RequestObservation,
) -> AsyncIterator[Generation]:
    """Route, tokenize, submit, and wait for the first output.

    Nothing has been answered until then, so whatever can be refused is refused with a status of its own.
    """
    messages = [message.to_prompt() for message in request.messages]
    async with services.dispatcher.admit(request.model, messages, wishes) as route:
        observed.routed(route)
        prompt_ids = await _tokenize(services, messages)
        observed.prompt_tokens = len(prompt_ids)
        choices = _sampling_params(services, request, len(prompt_ids))
        streams = [
            services.engine.generate(f"{request_id}-{index}", prompt_ids, params, route.adapter)
            for index, params in enumerate(choices)
        ]
        usage = Usage(len(prompt_ids))
        with _engine_errors():
            async with merged(streams) as outputs:
                first = await anext(outputs)
                observed.first_token()
                async with aclosing(_counted(first, outputs, usage, observed)) as counted:
                    yield Generation(route, usage, counted)


async def _counted(
    first: Indexed, rest: AsyncIterator[Indexed], usage: Usage, observed: RequestObservation
) -> AsyncGenerator[Indexed, None]:
    """All outputs, counted; raises GenerationError for one that says the engine gave up."""
    index, output = first
    while True:
        if (
            output.finish_reason is FinishReason.ABORTED
        ):  # by the operator: a client's own abort has no reader
            raise SpecialistUnloadedError(output.error or "The request was ended by the operator.")
        if output.finish_reason is FinishReason.FAILED:
            logger.error("generation failed", extra={"error": output.error})
            raise GenerationError("The engine could not finish this answer.")
        usage.note(index, output)
        observed.generation_tokens = usage.completion_tokens
        yield index, output
        try:
            index, output = await anext(rest)
        except StopAsyncIteration:
            return


async def _tokenize(services: Services, messages: Sequence[dict[str, str]]) -> list[int]:
    """Off the event loop: a prompt that fills the context takes longer than a token may wait."""
    from specialists.tokenizer import TokenizerError

    try:
        return await asyncio.to_thread(services.tokenizer.encode_chat, messages)
    except TokenizerError as error:
        raise InvalidRequestError(f"messages: {error}", param="messages") from None


def _sampling_params(
    services: Services, request: ChatCompletionRequest, num_prompt: int
) -> list[SamplingParams]:
    """One for each choice; with a seed each choice gets its own, so that they differ and can be repeated."""
    max_tokens = _length_of_answer(services, request, num_prompt)
    return [
        SamplingParams(
            max_tokens=max_tokens,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            top_k=max(request.top_k or 0, 0),
            seed=None if request.seed is None else (request.seed + index) % _SEEDS,
            stop=request.stop_strings,
            ignore_eos=bool(request.ignore_eos),
        )
        for index in range(request.n or 1)
    ]


def _length_of_answer(services: Services, request: ChatCompletionRequest, num_prompt: int) -> int:
    limit = services.engine.max_model_len
    room = limit - num_prompt
    if room < 1:
        raise ContextLengthError(
            f"messages: the prompt has {num_prompt} tokens; with at least one for the answer, "
            f"this model's context of {limit} allows {limit - 1}.",
            param="messages",
        )
    wanted = request.max_completion_tokens if request.max_tokens is None else request.max_tokens
    if wanted is None:
        return min(room, services.settings.default_max_tokens or room)
    if wanted > room:
        raise ContextLengthError(
            f"{request.length_field}: {wanted} tokens were asked for and {room} are allowed: the context of "
            f"{limit} tokens also holds the prompt's {num_prompt}.",
            param=request.length_field,
        )
    return wanted


@contextmanager
def _engine_errors() -> Iterator[None]:
    """The engine's exceptions as what a client is told."""
    from specialists.engine.async_engine import EngineDeadError, EngineOverloadedError

    try:
        yield
    except EngineOverloadedError as error:
        raise OverloadedError("Too many requests are waiting; try again later.") from error
    except EngineDeadError as error:
        logger.error("the engine has died", exc_info=True)
        raise UnavailableError("The engine has stopped; the server needs a restart.") from error
