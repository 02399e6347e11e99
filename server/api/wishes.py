"""What a request wishes of its routing: from its body's `polymath` field, its `user`, and its session header."""

from fastapi import Request

from server.api.schemas import ChatCompletionRequest, PolymathOptions, RouteRequest
from server.errors import InvalidRequestError
from server.wishes import RoutingWishes

SESSION_HEADER = "x-polymath-session"
_MAX_SESSION_CHARS = 256


def wishes_of(body: ChatCompletionRequest | RouteRequest, request: Request) -> RoutingWishes:
    """Raises InvalidRequestError when the header is too long, or names another session than the body."""
    options = body.polymath or PolymathOptions()
    header = request.headers.get(SESSION_HEADER) or None
    if header is not None and len(header) > _MAX_SESSION_CHARS:
        raise InvalidRequestError(
            f"{SESSION_HEADER}: a session's name has at most {_MAX_SESSION_CHARS} characters, got {len(header)}",
            param=SESSION_HEADER,
        )
    if header is not None and options.session not in (None, header):
        raise InvalidRequestError(
            f"polymath.session and {SESSION_HEADER} name different sessions; give one of them",
            param="polymath.session",
        )
    return RoutingWishes(
        candidates=None if options.candidates is None else tuple(options.candidates),
        session=options.session or header,
        user=body.user or None,
        explain=options.explain,
    )
