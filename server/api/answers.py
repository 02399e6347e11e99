"""The bodies and headers of answers, in OpenAI's words.

Decides form only. Streams are framed in `streaming.py`; both name the specialist that answered as the
`model`.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from server.api.generation import Usage
from server.dispatch import Route
from specialists.engine.output import FinishReason

_FINISH_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What every chunk and body of one answer repeats."""

    id: str
    created: int
    model: str
    fingerprint: str
    explanation: Mapping[str, Any] | None = None  # the routing, when it was asked for


def new_completion_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def envelope_of(
    completion_id: str,
    route: Route[Any],
    fingerprint: str,
    explanation: Mapping[str, Any] | None = None,
) -> Envelope:
    return Envelope(
        id=completion_id,
        created=int(time.time()),
        model=route.specialist,
        fingerprint=fingerprint,
        explanation=explanation,
    )


def finish_reason(reason: FinishReason) -> str:
    return _FINISH_REASONS[reason]


def completion_body(
    envelope: Envelope, texts: list[str], reasons: list[FinishReason], usage: Usage
) -> dict[str, Any]:
    return {
        "id": envelope.id,
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": envelope.fingerprint,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish_reason(reason),
            }
            for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ],
        "usage": usage_body(usage),
        **({} if envelope.explanation is None else {"polymath": envelope.explanation}),
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def route_headers(route: Route[Any]) -> dict[str, str]:
    decision = route.decision
    return {
        "x-polymath-specialist": route.specialist,
        # An intent is free text of a manifest; a header is not.
        "x-polymath-intent": quote(decision.intent, safe=" "),
        "x-polymath-confidence": f"{decision.confidence:.4f}",
        "x-polymath-reason": decision.reason.value,
        "x-polymath-generation": str(route.generation),
    }


def route_body(route: Route[Any]) -> dict[str, Any]:
    decision = route.decision
    return {
        "object": "route",
        "specialist": route.specialist,
        "generation": route.generation,
        "intent": decision.intent,
        "confidence": decision.confidence,
        "reason": decision.reason.value,
        "scores": dict(decision.scores),
        "threshold": decision.threshold,
        "margin": decision.margin,
        "session": None if decision.session is None else asdict(decision.session),
        "nearest": [asdict(example) for example in decision.nearest],
        "route_ms": decision.route_ms,
    }
