"""Where the server is between start and end: loading, ready, draining, failed.

Decides when requests are let in and when the process may go. Loading runs in a thread of its own, so that
/health answers from the first moment. Knows nothing about what is loaded.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from server.errors import UnavailableError
from server.keys import KeyRing
from server.metrics import Metrics
from server.services import Services
from server.settings import Settings

logger = logging.getLogger(__name__)

Load = Callable[[Settings], Services]


class State(StrEnum):
    """The stations of a server's life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Lifecycle:
    """Owns the services and counts the requests that use them. Used by the event loop's thread only."""

    def __init__(
        self,
        settings: Settings,
        load: Load,
        *,
        on_ready: Callable[[Services], None] | None = None,
        on_failed: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self.keys = KeyRing(settings)
        self.metrics = Metrics()
        self.state = State.LOADING
        self.failure: Exception | None = None  # why loading failed
        self._load = load
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._services: Services | None = None
        self._loading: asyncio.Task[None] | None = None
        self._loader: threading.Thread | None = None
        self._num_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def services(self) -> Services | None:
        return self._services

    @property
    def is_ready(self) -> bool:
        return self.state is State.READY and self._services is not None and self._services.is_healthy

    @property
    def is_loading(self) -> bool:
        """The loading thread still runs, whatever the state."""
        return self._loader is not None and self._loader.is_alive()

    @property
    def num_requests(self) -> int:
        return self._num_requests

    def require_services(self) -> Services:
        """Raises UnavailableError, with the reason, unless requests can be served."""
        if self.state is not State.READY or self._services is None:
            raise UnavailableError(f"The server is {self.state}; try again later.")
        if not self._services.is_healthy:
            raise UnavailableError("The engine has stopped; the server needs a restart.")
        return self._services

    @contextmanager
    def request(self) -> Iterator[Services]:
        """The services for one request, which draining waits for."""
        services = self.require_services()
        self._num_requests += 1
        self._idle.clear()
        try:
            yield services
        finally:
            self._num_requests -= 1
            if self._num_requests == 0:
                self._idle.set()

    def start(self) -> None:
        """Begin to load, in the background."""
        self._loading = asyncio.create_task(self._run_load())

    async def drain(self) -> None:
        """Let no more requests in; return when none is left or `settings.drain_seconds` have passed."""
        self.state = State.DRAINING
        try:
            await asyncio.wait_for(self._idle.wait(), self.settings.drain_seconds)
        except TimeoutError:
            logger.warning("ending with requests still running", extra={"requests": self._num_requests})

    async def close(self) -> None:
        """Stop what was loaded. A load still going on is left to die with the process."""
        if self.state is not State.FAILED:
            self.state = State.DRAINING
        if self._loading is not None:
            self._loading.cancel()
        services, self._services = self._services, None
        if services is not None:
            await asyncio.to_thread(services.close)

    async def _run_load(self) -> None:
        try:
            services = await self._load_in_thread()
            services.start()
        except Exception as error:
            self.state, self.failure = State.FAILED, error
            if self._on_failed is not None:
                self._on_failed()
            return
        self.metrics.watch(services)
        self._services = services
        if self.state is State.LOADING:
            self.state = State.READY
        if self._on_ready is not None:
            self._on_ready(services)

    async def _load_in_thread(self) -> Services:
        """Like asyncio.to_thread, but Ctrl-C does not have to wait for a load to end."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Services] = loop.create_future()

        def settle(services: Services | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            elif services is not None:
                future.set_result(services)

        def run() -> None:
            services, error = None, None
            try:
                services = self._load(self.settings)
            except Exception as caught:
                error = caught
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(settle, services, error)

        self._loader = threading.Thread(target=run, name="loading", daemon=True)
        self._loader.start()
        return await future
