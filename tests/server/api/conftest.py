"""The tiny server, one for all tests of this folder, and OpenAI's client for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from server.lifecycle import Lifecycle
from server.services import Services
from tests.server.tiny import load_predictable, running, tiny_settings


@dataclass(frozen=True)
class TinyServer:
    """Where it listens, and what is inside."""

    url: str
    lifecycle: Lifecycle

    @property
    def services(self) -> Services:
        services = self.lifecycle.services
        assert services is not None
        return services

    @property
    def num_in_flight(self) -> int:
        registry = self.services.registry
        return sum(registry.num_in_flight(name) for name in registry.names())


@pytest.fixture(scope="session")
def tiny_server(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyServer]:
    settings = tiny_settings(tmp_path_factory.mktemp("server"), tiny_qwen2)
    lifecycle = Lifecycle(settings, load_predictable)
    with running(lifecycle) as url:
        yield TinyServer(url, lifecycle)


@pytest.fixture
def client(tiny_server: TinyServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="any", max_retries=0) as client:
        yield client
