"""Every failure as OpenAI's error body, whatever raised it: our code, FastAPI, Starlette, or a bug.

The only place that knows the shape. An unexpected exception is logged whole and told as nothing but
"internal error".
"""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from server.errors import PolymathError

logger = logging.getLogger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(PolymathError, _on_polymath_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


def error_body(error: PolymathError) -> dict[str, Any]:
    return _body(error.message, error.type, error.param, error.code)


def error_response(error: PolymathError) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return _response(error_body(error), error.status, headers)


def to_polymath_error(error: Exception) -> PolymathError:
    """What a client may know of any exception; a bug is logged here, with the request's id."""
    if isinstance(error, PolymathError):
        return error
    logger.error("unexpected exception", exc_info=error)
    return PolymathError("The server had an internal error; its log names the cause.")


def _response(body: dict[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    # In ASCII: a message may repeat what a client sent, and JSON can carry text that UTF-8 cannot.
    return Response(json.dumps(body), status, headers, "application/json")


def _body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def _on_polymath_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, PolymathError)
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise themselves: no such path, no such method, an unreadable body."""
    assert isinstance(error, HTTPException)
    message, code = str(error.detail), None
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"Invalid URL ({request.method} {request.url.path})"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message, code = f"Not allowed to {request.method} on {request.url.path}", "method_not_supported"
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    return _response(_body(message, kind, None, code), error.status_code, error.headers)


async def _on_validation_error(_: Request, error: Exception) -> Response:
    """A path or query parameter that FastAPI refused; bodies are validated in `body.py`."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    param = ".".join(str(item) for item in problem["loc"][1:]) or None
    message = f"{param or 'The request'}: {problem['msg']}"
    return _response(_body(message, "invalid_request_error", param, "invalid_value"), 400)
