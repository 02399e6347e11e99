"""A real server in a thread: uvicorn, a tiny random Qwen2 in the real engine, real adapters, real HTTP."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from server.app import create_app
from server.dispatch import Dispatcher
from server.lifecycle import Lifecycle
from server.loading import load_services
from server.services import Services
from server.settings import Settings
from specialists.engine.qwen_config import read_qwen_config
from tests.router.conftest import make_encoder, make_weights
from tests.server.fakes import INTENTS, FixedIntents, KeywordDelegator
from tests.specialists.adapters.tiny import write_adapter as write_peft_folder

TINY_LIMITS: dict[str, Any] = {
    "dtype": "float32",
    "device": "cpu",
    "max_num_seqs": 8,
    "block_size": 4,
    "num_blocks": 1024,
    "max_num_batched_tokens": 64,
    "max_model_len": 512,
    "max_adapters": 4,
    "threads": 1,  # of a model this small, more threads only wait for each other
}


def write_adapter(folder: Path, base: Path, *, intent: str | None, seed: int, rank: int = 4) -> Path:
    """A PEFT folder with random q and v factors and a manifest that names the intent."""
    manifest = {"name": folder.name, "intent": intent}
    targets = ("q_proj", "v_proj")
    return write_peft_folder(
        folder, read_qwen_config(base), seed=seed, rank=rank, targets=targets, manifest=manifest
    )


def write_catalog(root: Path, base: Path) -> Path:
    """Three specialists: for math, for code, and one that declares no intent."""
    for seed, (name, intent) in enumerate({"math": "math", "code": "code", "loner": None}.items()):
        write_adapter(root / name, base, intent=intent, seed=seed)
    return root


def tiny_settings(root: Path, base: Path, **settings: Any) -> Settings:
    """Everything tiny and real: base, encoder, the delegator's trained part, specialists."""
    encoder = make_encoder(root / "encoder")
    return Settings(
        base=str(base),
        encoder=str(encoder),
        router_weights=make_weights(root / "router", encoder),
        catalog=write_catalog(root / "catalog", base),
        **{"state_folder": root / "state", **TINY_LIMITS, **settings},
    )


def load_predictable(settings: Settings) -> Services:
    """What a server loads, but routed by keywords: a random delegator's choices mean nothing."""
    services = load_services(settings)
    dispatcher = Dispatcher(KeywordDelegator(), services.registry, {services.base_id})
    services.dispatcher.close()
    services.roster._local.intents = FixedIntents(INTENTS)
    return replace(services, dispatcher=dispatcher)


@contextmanager
def running(lifecycle: Lifecycle) -> Iterator[str]:
    """Serve on a free port of this machine; gives the address once /ready would answer 200."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(lifecycle), loop="uvloop", http="httptools", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="uvicorn")
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not lifecycle.is_ready:
            if lifecycle.failure is not None:
                raise lifecycle.failure
            assert thread.is_alive() and time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()
