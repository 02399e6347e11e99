"""The client against a small real HTTP server: answers, retries, refusals."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.generation import GenerationError, GenerationRequest
from specialists.evaluation.remote import RemoteGenerator


class Handler(BaseHTTPRequestHandler):
    """Repeats the question in capitals; the first request is told to come back."""

    bodies: ClassVar[list[dict[str, Any]]] = []
    headers_seen: ClassVar[list[str | None]] = []
    num_busy: ClassVar[int] = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if type(self).num_busy:
            type(self).num_busy -= 1
            self._answer(429, {"error": "busy"}, retry_after="0")
            return
        self.bodies.append({**body, "path": self.path})
        self.headers_seen.append(self.headers["authorization"])
        text = body["messages"][-1]["content"]
        if text == "refuse":
            self._answer(400, {"error": {"message": "no such model"}})
        elif text == "nonsense":
            self._answer(200, {"object": "list"})
        else:
            choice = {
                "message": {"content": text.upper()},
                "finish_reason": "length" if "..." in text else "stop",
            }
            self._answer(200, {"choices": [choice], "usage": {"completion_tokens": 7}, "model": "math"})

    def _answer(self, status: int, body: dict[str, Any], retry_after: str | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        if retry_after is not None:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.bodies.clear()
    Handler.headers_seen.clear()
    Handler.num_busy = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def requests(*texts: str) -> Iterator[GenerationRequest]:
    for index, text in enumerate(texts):
        params = SamplingParams(max_tokens=9, temperature=0.0)
        yield GenerationRequest(str(index), [{"role": "user", "content": text}], params)


@pytest.fixture
def generator(url: str) -> Iterator[RemoteGenerator]:
    client = RemoteGenerator(url, "auto", "secret", concurrency=3)
    yield client
    client.close()


def test_all_are_answered_with_their_keys(generator: RemoteGenerator):
    answers = {one.key: one for one in generator(requests("a", "b", "c...", "d", "e"))}
    assert [answers[str(index)].text for index in range(5)] == ["A", "B", "C...", "D", "E"]
    assert [answers[str(index)].is_cut for index in range(5)] == [False, False, True, False, False]
    assert (answers["0"].num_tokens, answers["0"].specialist) == (7, "math")
    body = Handler.bodies[0]
    assert (body["path"], body["model"]) == ("/v1/chat/completions", "auto")
    assert (body["max_tokens"], body["temperature"]) == (9, 0.0)
    assert set(Handler.headers_seen) == {"Bearer secret"}


def test_a_busy_server_is_asked_again(generator: RemoteGenerator):
    Handler.num_busy = 2
    assert [one.text for one in generator(requests("a"))] == ["A"]


@pytest.mark.parametrize(
    ("text", "error"), [("refuse", "answered 400: .*no such model"), ("nonsense", "no chat completion")]
)
def test_what_cannot_be_answered_says_why(generator: RemoteGenerator, text: str, error: str):
    with pytest.raises(GenerationError, match=error):
        list(generator(requests(text)))


def test_a_server_that_is_not_there_is_named():
    client = RemoteGenerator("http://127.0.0.1:9/v1/", "auto")
    with pytest.raises(GenerationError, match=r"cannot reach http://127\.0\.0\.1:9/v1/chat/completions"):
        list(client(requests("a")))
    client.close()
