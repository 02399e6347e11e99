"""A tiny server with an admin key, what an operator does with it, and adapters to load."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from server.lifecycle import Lifecycle
from server.services import Services
from tests.server.tiny import load_predictable, running, tiny_settings, write_adapter

ADMIN_KEY, CLIENT_KEY = "the-admin-key", "a-client-key"


@dataclass
class Operator:
    """The admin's client, the server behind it, and a folder it may load from."""

    http: httpx.Client
    lifecycle: Lifecycle
    root: Path
    base: Path

    @property
    def services(self) -> Services:
        services = self.lifecycle.services
        assert services is not None
        return services

    def write(self, folder: str, *, seed: int = 50, intent: str | None = None, **manifest: Any) -> Path:
        """An adapter below the root."""
        path = write_adapter(self.root / folder, self.base, intent=intent, seed=seed)
        text = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(text | manifest))
        return path

    def load(self, name: str, path: Path | None = None, **fields: Any) -> httpx.Response:
        body = {"name": name, **fields} | ({} if path is None else {"path": str(path)})
        return self.http.post("/admin/adapters", json=body)

    def loaded(self, name: str, path: Path | None = None, **fields: Any) -> dict[str, Any]:
        response = self.load(name, path, **fields)
        assert response.status_code == 201, response.text
        return dict(response.json())

    def get(self, name: str) -> dict[str, Any]:
        response = self.http.get(f"/admin/adapters/{name}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def unload(self, name: str, **params: Any) -> httpx.Response:
        return self.http.delete(f"/admin/adapters/{name}", params=params)

    def chat(self, model: str, **fields: Any) -> httpx.Response:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "what is the sum"}],
            "temperature": 0,
        }
        return self.http.post("/v1/chat/completions", json={**body, "max_tokens": 8, **fields})

    def text(self, model: str) -> str:
        response = self.chat(model)
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])

    def names(self) -> list[str]:
        return [entry["name"] for entry in self.http.get("/admin/adapters").json()["data"]]

    def metric(self, name: str, **labels: str) -> float:
        return self.lifecycle.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def operating(root: Path, base: Path, **settings: Any) -> Iterator[Operator]:
    """A server over `root`; called again with the same folder it is the same server after a restart."""
    adapters = root / "adapters"
    adapters.mkdir(exist_ok=True)
    chosen = {"admin_key": ADMIN_KEY, "adapter_roots": [adapters], "refresh_seconds": 0, **settings}
    if (root / "catalog").exists():
        parts = {"base": str(base), "encoder": str(root / "encoder"), "router_weights": root / "router"}
        from server.settings import Settings
        from tests.server.tiny import TINY_LIMITS

        made = Settings(
            **{**parts, "catalog": root / "catalog", "state_folder": root / "state", **TINY_LIMITS, **chosen}
        )
    else:
        made = tiny_settings(root, base, **chosen)
    lifecycle = Lifecycle(made, load_predictable)
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    with running(lifecycle) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        yield Operator(http, lifecycle, adapters, base)


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited 30 s in vain until {what}"
        time.sleep(0.005)
