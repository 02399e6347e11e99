"""`POST /v1/chat/completions`.

Decides the order of one request's life: let in, watch the client, generate, answer. The answer does its
work while it is being sent, inside one `async with`, so that no path leads past the release of what the
request holds.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from server.api.answers import (
    Envelope,
    completion_body,
    envelope_of,
    new_completion_id,
    route_body,
    route_headers,
)
from server.api.body import json_body
from server.api.deps import LifecycleDep, services_of
from server.api.disconnect import abort_on_disconnect
from server.api.error_handlers import error_body, to_polymath_error
from server.api.generation import Generation, start_generation
from server.api.openapi import request_body
from server.api.schemas import ChatCompletionRequest
from server.api.streaming import DONE, ChunkWriter, chunks, error_event
from server.api.wishes import wishes_of
from server.errors import ClientDisconnectedError
from server.lifecycle import Lifecycle
from server.wishes import RoutingWishes
from specialists.engine.output import FinishReason

router = APIRouter()


@router.post(
    "/chat/completions",
    dependencies=[Depends(services_of)],
    openapi_extra=request_body(ChatCompletionRequest),
    summary="Answer a conversation with the specialist it belongs to",
)
async def create_chat_completion(
    request: Request,
    lifecycle: LifecycleDep,
    body: Annotated[ChatCompletionRequest, Depends(json_body(ChatCompletionRequest))],
) -> Response:
    answer = StreamedAnswer if body.stream else WholeAnswer
    return answer(lifecycle, body, wishes_of(body, request))


class _Answer(Response):
    """A response that generates while it is sent."""

    def __init__(self, lifecycle: Lifecycle, request: ChatCompletionRequest, wishes: RoutingWishes) -> None:
        super().__init__()
        self._lifecycle = lifecycle
        self._request = request
        self._wishes = wishes

    @asynccontextmanager
    async def _generation(self, receive: Receive) -> AsyncIterator[tuple[Generation, Envelope]]:
        """Enter, from the outside in, everything that has to be left again."""
        completion_id = new_completion_id()
        with self._lifecycle.metrics.observe_request() as observed, self._lifecycle.request() as services:
            async with (
                abort_on_disconnect(receive),
                start_generation(
                    services, self._request, self._wishes, completion_id, observed
                ) as generation,
            ):
                explanation = route_body(generation.route) if self._wishes.explain else None
                yield (
                    generation,
                    envelope_of(completion_id, generation.route, services.fingerprint, explanation),
                )


class WholeAnswer(_Answer):
    """One JSON body, sent when the last token is there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._generation(receive) as (generation, envelope):
            texts, reasons = await _collect(generation, self._request.n or 1)
            body = completion_body(envelope, texts, reasons, generation.usage)
        await JSONResponse(body, headers=route_headers(generation.route))(scope, receive, send)


class StreamedAnswer(_Answer):
    """Server-sent events, from the first token on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_started = False
        try:
            async with self._generation(receive) as (generation, envelope):
                await send(_stream_start(generation))
                is_started = True
                async for piece in self._pieces(generation, envelope):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except ClientDisconnectedError:
            raise
        except Exception as error:
            if not is_started:
                raise  # still time for a status
            piece = error_event(error_body(to_polymath_error(error)))
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        # After the release: when the client has its last byte, nothing of its request is left.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self, generation: Generation, envelope: Envelope) -> AsyncIterator[bytes]:
        writer = ChunkWriter(envelope, include_usage=self._request.include_usage)
        async for piece in chunks(generation, writer, self._request.n or 1):
            yield piece
        yield (writer.usage(generation.usage) if self._request.include_usage else b"") + DONE


async def _collect(generation: Generation, num_choices: int) -> tuple[list[str], list[FinishReason]]:
    texts: list[list[str]] = [[] for _ in range(num_choices)]
    reasons: dict[int, FinishReason] = {}
    async for index, output in generation.outputs:
        texts[index].append(output.text)
        if output.finish_reason is not None:
            reasons[index] = output.finish_reason
    return ["".join(pieces) for pieces in texts], [reasons[index] for index in range(num_choices)]


def _stream_start(generation: Generation) -> Message:
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",  # nginx would hold the events back
        **route_headers(generation.route),
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": raw}
