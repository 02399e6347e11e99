"""The process: what a signal does to running and new requests, what it prints, how it ends."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from server.app import create_app
from server.lifecycle import Lifecycle
from server.serve import DrainingServer, with_admin_key
from server.services import Services
from server.settings import Settings
from specialists.engine.async_engine import EngineDeadError
from tests.server.api.wire import events
from tests.server.conftest import fake_services
from tests.server.fakes import CountingRegistry, KeywordDelegator, ScriptedEngine
from tests.server.tiny import TINY_LIMITS, tiny_settings

pytestmark = pytest.mark.slow

CHAT: dict[str, Any] = {"model": "math", "messages": [{"role": "user", "content": "hello"}], "stream": True}


class HeldEngine(ScriptedEngine):
    """Says one word at once and the rest when the test lets it; ends what it holds when it is shut down."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go, self.is_down = threading.Event(), threading.Event()

    def shutdown(self) -> None:
        super().shutdown()
        self.is_down.set()

    async def generate(self, request_id: str, prompt_ids: Any, params: Any, adapter: Any) -> Any:
        async for output in super().generate(request_id, prompt_ids, params, adapter):
            yield output
            while not (self.may_go.is_set() or self.is_down.is_set()):
                await asyncio.sleep(0.005)
            if self.is_down.is_set():
                raise EngineDeadError("shut down")


@dataclass
class Process:
    """A DrainingServer in a thread; `signal` does to it what a signal does to the process."""

    url: str
    server: DrainingServer
    engine: HeldEngine
    thread: threading.Thread
    received: list[str] = field(default_factory=list)

    def signal(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)

    def start_stream(self) -> threading.Thread:
        begun = threading.Event()

        def read() -> None:
            with httpx.stream("POST", f"{self.url}/v1/chat/completions", json=CHAT, timeout=30) as response:
                for text in response.iter_text():
                    self.received.append(text)
                    begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(30)
        return reader

    def chat_status(self) -> int:
        return httpx.post(f"{self.url}/v1/chat/completions", json={**CHAT, "stream": False}).status_code

    def wait_until_ended(self) -> None:
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


@contextmanager
def serving(drain_seconds: float) -> Iterator[Process]:
    engine, registry = HeldEngine(), CountingRegistry({"math": "math"})

    def load(settings: Settings) -> Services:
        return fake_services(settings, engine, registry, KeywordDelegator())

    lifecycle = Lifecycle(Settings(drain_seconds=drain_seconds), load)
    config = uvicorn.Config(
        create_app(lifecycle), loop="uvloop", log_config=None, access_log=False, timeout_graceful_shutdown=2
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = DrainingServer(config, lifecycle)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    process = Process(f"http://127.0.0.1:{listener.getsockname()[1]}", server, engine, thread)
    try:
        while not lifecycle.is_ready:
            time.sleep(0.005)
        yield process
    finally:
        engine.may_go.set()
        server.should_exit = server.force_exit = True
        thread.join(timeout=30)
    assert registry.num_held == 0
    assert engine.is_shut_down


def test_a_signal_lets_running_answers_finish_and_nothing_in():
    with serving(drain_seconds=10) as process:
        reader = process.start_stream()
        process.signal()
        deadline = time.monotonic() + 30
        while httpx.get(f"{process.url}/ready").status_code != 503:
            assert time.monotonic() < deadline
        assert process.chat_status() == 503
        assert process.thread.is_alive()
        process.engine.may_go.set()
        reader.join(timeout=30)
        process.wait_until_ended()
    *chunks, done = events("".join(process.received))
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "one two three"


def test_after_the_deadline_a_stream_ends_with_an_error_event():
    with serving(drain_seconds=0.1) as process:
        reader = process.start_stream()
        process.signal()
        reader.join(timeout=30)
        process.wait_until_ended()
    assert events("".join(process.received))[-1]["error"]["type"] == "server_error"


def test_a_second_signal_ends_the_drain(caplog: pytest.LogCaptureFixture):
    with serving(drain_seconds=60) as process:
        reader = process.start_stream()
        process.signal()
        time.sleep(0.2)
        assert process.thread.is_alive()
        process.signal()
        process.wait_until_ended()
        reader.join(timeout=30)
    assert not [record for record in caplog.records if record.name.startswith("uvicorn") and record.exc_info]
    assert "CancelledError" not in caplog.text


def test_without_requests_a_signal_ends_it_at_once():
    with serving(drain_seconds=60) as process:
        process.signal()
        process.wait_until_ended()


@contextmanager
def polymath(*arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process, which does not outlive the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLYMATH_")}
    command = [sys.executable, "-m", "server", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env={**environment, **variables}, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_polymath(*arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and standard error of a command that ends by itself."""
    with polymath(*arguments, **variables) as process:
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors


def test_missing_weights_are_one_sentence_and_exit_code_1(tmp_path: Path):
    code, errors = run_polymath("serve", "--port", "0", POLYMATH_HOME=str(tmp_path / "empty"))
    assert code == 1
    assert errors.startswith("polymath: ") and errors.count("\n") == 1
    assert "polymath pull" in errors


@pytest.mark.parametrize(
    ("settings", "is_interactive", "is_made"),
    [
        ({}, True, True),
        ({"host": "::1"}, True, True),
        ({"host": "localhost"}, True, True),
        ({}, False, False),
        ({"host": "0.0.0.0"}, True, False),
        ({"host": "example.org"}, True, False),
        ({"admin_key": "mine"}, True, False),
    ],
)
def test_an_admin_key_is_made_up_for_a_terminal_on_this_machine_only(
    settings: dict[str, Any], is_interactive: bool, is_made: bool, capsys: pytest.CaptureFixture[str]
):
    given = Settings(**settings)
    used = with_admin_key(given, is_interactive=is_interactive)
    assert (used is not given) == is_made
    told = capsys.readouterr().out
    assert bool(told) == is_made
    if is_made:
        assert used.admin_key is not None
        assert used.admin_key.get_secret_value() in told and len(used.admin_key.get_secret_value()) >= 32


def test_a_port_in_use_is_known_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, errors = run_polymath("serve", "--port", port)
    assert code == 1
    assert re.fullmatch(rf"polymath: cannot listen on 127.0.0.1 port {port}: .*in use.*\n", errors)


def test_contradicting_settings_are_known_before_anything_is_loaded():
    code, errors = run_polymath("serve", POLYMATH_MAX_NUM_SEQS="600")
    assert code == 1
    assert errors.startswith("polymath: max_num_batched_tokens (512) must be at least max_num_seqs (600)")


def write_config(tmp_path: Path, tiny_qwen2: Path) -> Path:
    settings = tiny_settings(tmp_path, tiny_qwen2)
    config = tmp_path / "polymath.toml"
    names = ["base", "encoder", "router_weights", "catalog", "state_folder", *TINY_LIMITS]
    lines = [f"{name} = {json.dumps(getattr(settings, name), default=str)}" for name in names]
    config.write_text("\n".join(lines) + '\nport = 0\nlog_format = "json"\n')
    return config


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    urls: list[str] = re.findall(r"http://[\d.:]+", process.stdout.readline())
    return urls[0]


def test_a_signal_while_loading_ends_it_cleanly(tiny_qwen2: Path, tmp_path: Path):
    with polymath("serve", "--config", str(write_config(tmp_path, tiny_qwen2))) as process:
        assert httpx.get(f"{url_of(process)}/health", timeout=60).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_a_whole_life(tiny_qwen2: Path, tmp_path: Path):
    """A real process from its start to its end: health at once, ready, an answer, SIGTERM, exit code 0."""
    config = write_config(tmp_path, tiny_qwen2)
    (tmp_path / "catalog" / "damaged").mkdir()
    with polymath("serve", "--config", str(config)) as process:
        url = url_of(process)
        deadline = time.monotonic() + 180
        with httpx.Client(base_url=url, timeout=60) as client:
            while client.get("/ready").status_code != 200:
                assert client.get("/health").status_code == 200
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            assert client.get("/ready").json()["refused"] == ["damaged"]
            answer = client.post("/v1/chat/completions", json={**CHAT, "stream": False, "max_tokens": 4})
            assert answer.json()["model"] == "math"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"Polymath is ready on {url}" in output
    assert "specialists  code, loner, math" in output and "left out     damaged" in output
    assert f"curl {url}/v1/chat/completions" in output
    records = [json.loads(line) for line in errors.splitlines()]
    assert any("damaged" in record["message"] and record["level"] == "error" for record in records)
    assert any(
        record["message"] == "POST /v1/chat/completions" and record["status"] == 200 for record in records
    )
