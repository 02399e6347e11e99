"""Around every request: its id, its log line, and the last word when something raised.

Plain ASGI: Starlette's BaseHTTPMiddleware would put a task and a queue between the engine and the client.
"""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.error_handlers import error_response, to_polymath_error
from server.errors import ClientDisconnectedError
from server.log import request_id_var
from server.metrics import Metrics

logger = logging.getLogger("server.access")

_CLIENT_CLOSED = 499  # nginx's number; no client ever sees it
_USABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})


class RequestContextMiddleware:
    """Gives each request an id (its own, if it is usable in a log) and answers what nobody else caught."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        token = request_id_var.set(exchange.request_id)
        try:
            await self._app(scope, receive, exchange.send)
        except ClientDisconnectedError:
            exchange.status = _CLIENT_CLOSED
        except Exception as error:
            if exchange.status:
                raise  # too late to say anything; the server closes the connection
            await error_response(to_polymath_error(error))(scope, receive, exchange.send)
        finally:
            exchange.log()
            self._metrics.http_responses.labels(str(exchange.status)).inc()
            request_id_var.reset(token)


class _Exchange:
    """One request and what was answered to it so far."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if _USABLE_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        self.status = 0
        self._scope = scope
        self._send = send
        self._specialist: str | None = None
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            self._specialist = headers.get("x-polymath-specialist")
        await self._send(message)

    def log(self) -> None:
        path = self._scope["path"]
        level = logging.DEBUG if path in _QUIET_PATHS else logging.INFO
        if not logger.isEnabledFor(level):
            return
        extra = {
            "status": self.status,
            "ms": round((time.perf_counter() - self._started) * 1000, 1),
            "specialist": self._specialist,
        }
        logger.log(level, "%s %s", self._scope["method"], path, extra=extra)
