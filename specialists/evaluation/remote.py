"""Answers from any server that speaks OpenAI's chat completions; a client, and the only one in this room."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import httpx

from specialists.evaluation.generation import Generation, GenerationError, GenerationRequest

_RETRIED = {429, 503}
_MAX_TRIES = 6


class RemoteGenerator:
    """Asks `concurrency` requests at a time. The `model` of an answer is kept as who answered.

    Raises GenerationError naming the address when the server refuses or cannot be reached.
    """

    def __init__(
        self, url: str, model: str, api_key: str | None = None, concurrency: int = 16, timeout: float = 600.0
    ) -> None:
        base = url.rstrip("/")
        self._url = f"{base if base.endswith('/v1') else f'{base}/v1'}/chat/completions"
        self._model = model
        self._concurrency = concurrency
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout)

    def __call__(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        """Yield answers as they come; `requests` is read only as fast as they are asked."""
        waiting = iter(requests)
        pending: set[Future[Generation]] = set()
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="remote") as pool:
            try:
                while True:
                    while len(pending) < self._concurrency and (request := next(waiting, None)) is not None:
                        pending.add(pool.submit(self._ask, request))
                    if not pending:
                        return
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                for future in pending:
                    future.cancel()

    def close(self) -> None:
        self._client.close()

    def _ask(self, request: GenerationRequest) -> Generation:
        body = {
            "model": self._model,
            "messages": [dict(message) for message in request.messages],
            "max_tokens": request.params.max_tokens,
            "temperature": request.params.temperature,
        }
        answer = self._post(body)
        try:
            choice = answer["choices"][0]
            return Generation(
                key=request.key,
                text=choice["message"]["content"] or "",
                num_tokens=answer["usage"]["completion_tokens"],
                is_cut=choice["finish_reason"] == "length",
                specialist=answer.get("model"),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise GenerationError(
                f"{self._url} answered {str(answer)[:200]!r}, no chat completion"
            ) from error

    def _post(self, body: dict[str, Any]) -> Any:
        for attempt in range(_MAX_TRIES):
            try:
                response = self._client.post(self._url, json=body)
            except httpx.HTTPError as error:
                raise GenerationError(f"cannot reach {self._url}: {error}") from error
            if response.status_code not in _RETRIED:
                break
            time.sleep(_wait_seconds(response, attempt))
        if response.status_code != httpx.codes.OK:
            raise GenerationError(f"{self._url} answered {response.status_code}: {response.text[:300]}")
        try:
            return response.json()
        except ValueError as error:
            raise GenerationError(f"{self._url} answered no JSON: {response.text[:200]}") from error


def _wait_seconds(response: httpx.Response, attempt: int) -> float:
    """What the server asks for, else twice as long each time, from half a second."""
    asked = response.headers.get("retry-after", "")
    return float(asked) if asked.isdigit() else 0.5 * 2**attempt
