"""The engine on its own thread, with an asyncio face. That thread alone touches the model.

Callers and engine meet in two places: a locked inbox of commands going in, and one asyncio queue per request coming out.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from torch import Tensor

from specialists.adapters.registry import LoadedAdapter
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.output import FinishReason, RequestOutput
from specialists.engine.sampling_params import SamplingParams

logger = logging.getLogger(__name__)


class EngineOverloadedError(RuntimeError):
    """As many requests as allowed are already waiting or running."""


class EngineDeadError(RuntimeError):
    """The engine's thread is not running: not started, shut down, or ended by an error it could not contain."""


@dataclass(frozen=True, slots=True)
class _Client:
    """Where the outputs of one request go."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[RequestOutput]


class AsyncEngine:
    """Serves `generate` from any event loop, over one `LLMEngine`.

    At most `max_requests` are accepted at a time, waiting ones included; one more raises EngineOverloadedError.
    """

    def __init__(self, engine: LLMEngine, *, max_requests: int = 256) -> None:
        self._engine = engine
        self._max_requests = max_requests
        self._wakeup = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._clients: dict[str, _Client] = {}  # guarded by _wakeup
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.error: str | None = None

    @property
    def max_model_len(self) -> int:
        return self._engine.max_model_len

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and self.error is None

    @property
    def num_requests(self) -> int:
        """Accepted and not yet ended."""
        with self._wakeup:
            return len(self._clients)

    @property
    def num_running(self) -> int:
        return len(self._engine.scheduler.running)

    @property
    def num_waiting(self) -> int:
        return max(0, self.num_requests - self.num_running)

    def start(self) -> None:
        assert self._thread is None, "the engine is already started"
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def shutdown(self) -> None:
        """End the thread after its current step; requests still running fail. Blocks until it ended."""
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify()
        if self._thread is not None:
            self._thread.join()

    async def generate(
        self,
        request_id: str,
        prompt_ids: SequenceOf[int],
        params: SamplingParams,
        adapter: LoadedAdapter | None = None,
        probe: Callable[[Tensor], None] | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yield the increments of one answer; the last has a finish reason. Closing it early aborts the request.

        The adapter must be acquired and resident until the end. `probe` is called on the engine's thread with the logits
        [vocab_size] of each token, before it is chosen.

        Raises before the first increment: PromptTooLongError or ValueError (bad prompt, id in use), NotResidentError,
        EngineOverloadedError, EngineDeadError.
        """
        self._engine.check_prompt(prompt_ids)
        in_use = None if adapter is None else adapter.in_use()
        client = _Client(asyncio.get_running_loop(), asyncio.Queue())
        self._submit(
            request_id,
            client,
            lambda: self._engine.add_request(request_id, prompt_ids, params, in_use, probe),
        )
        is_finished = False
        try:
            while not is_finished:
                output = await client.queue.get()
                is_finished = output.is_finished
                yield output
        finally:
            if not is_finished:
                self._abort(request_id)

    def active_adapters(self) -> Collection[int]:
        """The generations that sit in a slot of the batch."""
        return self._engine.active_adapters()

    def vacate(self, generation: int) -> None:
        """Soon, before any request submitted later: keep the weights of an adapter that no request uses no longer."""
        self._command(lambda: self._engine.vacate(generation))

    def forget(self, generation: int) -> None:
        """The same, and nothing of what the adapter computed."""
        self._command(lambda: self._engine.forget(generation))

    def end_requests(self, generation: int, error: str) -> None:
        """Soon: end all requests of an adapter with an output that says ABORTED and `error`."""
        self._command(lambda: self._deliver(self._engine.end_requests(generation, error)))

    def _command(self, command: Callable[[], None]) -> None:
        with self._wakeup:
            self._commands.append(command)
            self._wakeup.notify()

    def _submit(self, request_id: str, client: _Client, command: Callable[[], None]) -> None:
        with self._wakeup:
            if not self.is_alive or self._stopping:
                raise EngineDeadError(self.error or "the engine is not running")
            if request_id in self._clients:
                raise ValueError(f"a request with the id {request_id!r} is already running")
            if len(self._clients) >= self._max_requests:
                raise EngineOverloadedError(f"{len(self._clients)} requests are in progress, the limit")
            self._clients[request_id] = client
            self._commands.append(command)
            self._wakeup.notify()

    def _abort(self, request_id: str) -> None:
        with self._wakeup:
            if self._clients.pop(request_id, None) is not None:
                self._commands.append(lambda: self._engine.abort(request_id))
                self._wakeup.notify()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._deliver(self._engine.step())
        except (
            BaseException
        ) as error:  # nothing may end this thread silently: its clients would wait for ever
            self.error = f"{type(error).__name__}: {error}"
            logger.critical("the engine's thread has ended", exc_info=True)
        finally:
            self._fail_all(self.error or "the engine was shut down")

    def _take_commands(self) -> bool:
        """Sleep until there is something to do; False when the thread shall end."""
        with self._wakeup:
            while not (self._commands or self._stopping or self._engine.has_unfinished):
                self._wakeup.wait()
            commands, self._commands = self._commands, deque()
        for command in commands:
            command()
        return not self._stopping

    def _deliver(self, outputs: list[RequestOutput]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Client, RequestOutput]]] = {}
        with self._wakeup:
            for output in outputs:
                client = self._clients.get(output.request_id)
                if client is not None:  # else its caller went away, and the abort is in the inbox
                    by_loop.setdefault(client.loop, []).append((client, output))
                if output.is_finished:
                    self._clients.pop(output.request_id, None)
        for loop, deliveries in by_loop.items():
            _hand_over(loop, deliveries)

    def _fail_all(self, error: str) -> None:
        with self._wakeup:
            clients, self._clients = self._clients, {}
        for request_id, client in clients.items():
            output = RequestOutput(
                request_id=request_id,
                text="",
                token_ids=(),
                finish_reason=FinishReason.FAILED,
                num_prompt_tokens=0,
                num_completion_tokens=0,
                error=error,
            )
            _hand_over(client.loop, [(client, output)])


def _hand_over(loop: asyncio.AbstractEventLoop, deliveries: list[tuple[_Client, RequestOutput]]) -> None:
    """Put outputs into their queues, on the queues' own loop; one wake-up for all of a step."""

    def put() -> None:
        for client, output in deliveries:
            client.queue.put_nowait(output)

    try:
        loop.call_soon_threadsafe(put)
    except RuntimeError:
        # The loop is closed: whoever waited there is gone.
        return
