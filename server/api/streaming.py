"""Server-sent events in OpenAI's framing.

Decides the chunks and their order: the role, the text, the finish reason, the usage if asked for, [DONE]. A
chunk costs one `json.dumps` of its text: everything around it is encoded once for each answer.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from server.api.answers import Envelope, finish_reason, usage_body
from server.api.generation import Generation, Usage
from specialists.engine.output import FinishReason

DONE = b"data: [DONE]\n\n"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ChunkWriter:
    """Writes the chunks of one answer."""

    def __init__(self, envelope: Envelope, *, include_usage: bool) -> None:
        common = {
            "id": envelope.id,
            "object": "chat.completion.chunk",
            "created": envelope.created,
            "model": envelope.model,
            "system_fingerprint": envelope.fingerprint,
        }
        self._head = _encode(common).removesuffix("}")
        # OpenAI's rule: with a usage chunk at the end, the chunks before it say that theirs is null.
        self._explanation = (
            "" if envelope.explanation is None else f',"polymath":{_encode(envelope.explanation)}'
        )
        self._tail = ',"usage":null}' if include_usage else "}"

    def role(self, index: int) -> bytes:
        """The first chunk of a choice; the very first carries the explanation, if one was asked for."""
        explanation = self._explanation if index == 0 else ""
        return self._chunk(index, '{"role":"assistant","content":""}', "null", explanation)

    def content(self, index: int, text: str) -> bytes:
        return self._chunk(index, f'{{"content":{_encode(text)}}}', "null")

    def finish(self, index: int, reason: FinishReason) -> bytes:
        return self._chunk(index, "{}", f'"{finish_reason(reason)}"')

    def usage(self, usage: Usage) -> bytes:
        return f'data: {self._head},"choices":[],"usage":{_encode(usage_body(usage))}}}\n\n'.encode()

    def _chunk(self, index: int, delta: str, reason: str, extra: str = "") -> bytes:
        choice = f'{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{reason}}}'
        return f'data: {self._head},"choices":[{choice}]{extra}{self._tail}\n\n'.encode()


def error_event(body: Mapping[str, Any]) -> bytes:
    """How a failure is told once the status has been sent."""
    return f"data: {_encode(body)}\n\n".encode()


async def chunks(generation: Generation, writer: ChunkWriter, num_choices: int) -> AsyncIterator[bytes]:
    """Every chunk of the answer except usage and [DONE]."""
    yield b"".join(writer.role(index) for index in range(num_choices))
    async for index, output in generation.outputs:
        piece = writer.content(index, output.text) if output.text else b""
        if output.finish_reason is not None:
            piece += writer.finish(index, output.finish_reason)
        if piece:
            yield piece
