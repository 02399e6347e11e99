"""Runs the server as a process: listens, announces, drains, and says with its exit code how it ended.

Decides what SIGTERM and Ctrl-C mean: requests that run may finish until the deadline, new ones get a 503; a
second signal ends it at once.
"""

import asyncio
import ipaddress
import logging
import os
import secrets
import socket
import sys
import time
from types import FrameType

import uvicorn
from pydantic import SecretStr

from server.app import create_app
from server.errors import is_for_people
from server.lifecycle import Lifecycle
from server.loading import check_settings, load_services
from server.log import configure_logging
from server.services import Services
from server.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75  # longer than the usual client's or proxy's, so that they and not we close first
_EXAMPLE = "Tom has 3 boxes of 12 pencils and gives away 9 pencils. How many are left?"


class ServeError(Exception):
    """The server could not start; the message is one clear sentence."""


class DrainingServer(uvicorn.Server):
    """uvicorn, with a drain between the signal and the closing of the sockets."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own: that raises the signal again after the shutdown, which loses our exit code.
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def main_loop(self) -> None:
        await super().main_loop()
        drain = asyncio.create_task(self._lifecycle.drain())
        while not (drain.done() or self.force_exit):
            await asyncio.wait({drain}, timeout=0.1)
        drain.cancel()
        # What still runs ends with an error its client can read, and not with a cut connection.
        await self._lifecycle.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves this out when forced, and then logs its own cancelled task as an error.
            await self.lifespan.shutdown()


def serve(settings: Settings) -> None:
    """Serve until a signal. Raises ServeError or SettingsError."""
    settings = with_admin_key(settings, is_interactive=sys.stdin.isatty() and sys.stdout.isatty())
    check_settings(settings)
    configure_logging(settings.log_level, settings.log_format)

    def on_failed() -> None:
        server.should_exit = True

    started = time.perf_counter()
    with _listen(settings.host, settings.port) as listener:
        url = _url(listener)
        lifecycle = Lifecycle(
            settings,
            load_services,
            on_ready=lambda services: _announce(services, url, time.perf_counter() - started),
            on_failed=on_failed,
        )
        config = uvicorn.Config(
            create_app(lifecycle),
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on the client's address
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=5,
        )
        server = DrainingServer(config, lifecycle)
        _say(f"Polymath listens on {url} and loads its models; {url}/ready answers 200 when it is done.")
        server.run([listener])
    if lifecycle.failure is not None:
        raise ServeError(_sentence(lifecycle.failure)) from lifecycle.failure
    _say("Polymath has ended.")
    if lifecycle.is_loading:
        # A thread is inside torch's loading; unwinding the interpreter under it can crash.
        sys.stdout.flush()
        os._exit(0)


def with_admin_key(settings: Settings, *, is_interactive: bool) -> Settings:
    """The settings, with an admin key made up and told if somebody at a terminal serves to this machine only."""
    if settings.admin_key is not None or not is_interactive or not _is_loopback(settings.host):
        return settings
    key = secrets.token_urlsafe(24)
    _say(f"The admin key of this run, as POLYMATH_ADMIN_KEY is not set: {key}")
    return settings.model_copy(update={"admin_key": SecretStr(key)})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything is loaded: a port in use is known at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)  # who connects before the app runs waits, and is not refused
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServeError(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(services: Services, url: str, seconds: float) -> None:
    names = services.registry.names()
    lines = [
        f"Polymath is ready on {url} after {seconds:.1f} s.",
        f"  base         {services.base_id}",
        f"  specialists  {', '.join(names) or 'none'}",
    ]
    if services.refused:
        lines.append(f"  left out     {', '.join(services.refused)} (the log says why)")
    key = " -H 'Authorization: Bearer YOUR_KEY'" if services.settings.api_keys else ""
    lines += [
        "Try it:",
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json'{key} \\",
        f"""    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "{_EXAMPLE}"}}]}}'""",
    ]
    _say("\n".join(lines))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _sentence(error: Exception) -> str:
    """Errors that were written for people as they are; anything else with its type, and whole in the log."""
    if is_for_people(error):
        return str(error)
    logger.error("loading failed", exc_info=error)
    return f"{type(error).__name__}: {error}"
