"""The body of a request: read within a limit, parsed strictly, validated against a schema.

Decides what is refused before a schema sees it (too large, not JSON, NaN) and how a validation error is
told: which field, what was found, what was expected.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from server.api.deps import lifecycle_of
from server.errors import BodyTooLargeError, InvalidRequestError, UnsupportedMediaTypeError, shortened

ModelT = TypeVar("ModelT", bound=BaseModel)

_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unrecognized_parameter",
    "unsupported_parameter": "unsupported_parameter",
    "conflict": "conflicting_parameters",
}
_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a parameter of this request",
}


def json_body(schema: type[ModelT]) -> Callable[[Request], Awaitable[ModelT]]:
    """A dependency that gives the request's body as `schema`."""

    async def parse(request: Request) -> ModelT:
        _check_media_type(request)
        raw = await _read(request, lifecycle_of(request).settings.max_body_bytes)
        try:
            return schema.model_validate(_loads(raw))
        except ValidationError as error:
            raise explain(error.errors(include_url=False)) from None

    return parse


def explain(problems: list[ErrorDetails]) -> InvalidRequestError:
    """The first problem as a sentence that begins with its field."""
    problem = problems[0]
    context = problem.get("ctx", {})
    param = context.get("param") or field_path(problem["loc"])
    kind = problem["type"]
    message = f"{param or 'The body'}: {_MESSAGES.get(kind) or problem['msg']}"
    if kind not in _CODES and kind != "invalid_text":
        message += f" (got {shortened(_shown(problem['input']))})"
    return InvalidRequestError(message, param=param, code=_CODES.get(kind, "invalid_value"))


def field_path(loc: tuple[int | str, ...]) -> str | None:
    """`messages.0.content`; without the names of union members, which clients do not know."""
    return ".".join(shortened(str(item)) for item in loc if not str(item).startswith("@")) or None


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaTypeError(
            f"Expected a body of Content-Type application/json, got {shortened(media_type) or 'none'}."
        )


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than the {limit} bytes this server reads.")


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequestError("The body's JSON is nested too deeply.", code="invalid_json") from None
    except ValueError as error:  # malformed JSON, bytes that are no UTF-8, a number of thousands of digits
        raise InvalidRequestError(f"The body is not valid JSON: {error}.", code="invalid_json") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _shown(value: Any) -> str:
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return type(value).__name__
