"""Who may administer: a matrix of keys and doors, and a log line for each who tried."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from server.log import JsonFormatter, configure_logging
from server.settings import Settings
from tests.server.api.wire import error_of
from tests.server.conftest import Stand

ADMIN_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/admin/adapters", None),
    ("GET", "/admin/adapters/math", None),
    ("POST", "/admin/adapters", {"name": "x", "path": "/x"}),
    ("PATCH", "/admin/adapters/math", {"pinned": True}),
    ("DELETE", "/admin/adapters/math", None),
    ("POST", "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "/x"}),
    ("POST", "/v1/unload_lora_adapter", {"lora_name": "x"}),
]
KEYS = {"nobody": None, "client": "a-client", "admin": "the-admin", "stranger": "stranger", "empty": ""}


async def call(stand: Stand, method: str, path: str, body: Any, key: str | None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return await stand.client.request(method, path, json=body, headers=headers)


@pytest.fixture
def audit() -> Iterator[list[dict[str, Any]]]:
    """The audit log's lines, as a machine reads them."""
    lines: list[dict[str, Any]] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    logger, reader = logging.getLogger("server.audit"), Reader()
    logger.addHandler(reader)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield lines
    logger.setLevel(level)
    logger.removeHandler(reader)


class TestWithBothKeys:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(admin_key="the-admin", api_keys="a-client")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("method", "path", "body"), ADMIN_CALLS)
    @pytest.mark.parametrize(
        ("who", "status", "code"),
        [
            ("nobody", 401, "invalid_api_key"),
            ("empty", 401, "invalid_api_key"),
            ("stranger", 401, "invalid_api_key"),
            ("client", 403, "admin_key_required"),
        ],
    )
    async def test_only_the_admin_key_opens_admin(
        self,
        stand: Stand,
        audit: list[dict[str, Any]],
        method: str,
        path: str,
        body: Any,
        who: str,
        status: int,
        code: str,
    ):
        response = await call(stand, method, path, body, KEYS[who])
        error = error_of(response)
        assert (response.status_code, error["code"]) == (status, code)
        (line,) = audit
        assert (line["outcome"], line["code"], line["action"]) == ("denied", code, f"{method} {path}")
        assert ("key:" in line["who"]) == bool(KEYS[who])
        assert "a-client" not in json.dumps(line) and "stranger" not in json.dumps(line)

    async def test_the_admin_key_opens_everything(self, stand: Stand):
        assert (await call(stand, "GET", "/v1/models", None, "the-admin")).status_code == 200
        refused = await call(stand, "POST", "/admin/adapters", {"nonsense": 1}, "the-admin")
        assert refused.status_code == 400

    async def test_the_client_key_opens_v1(self, stand: Stand):
        assert (await call(stand, "GET", "/v1/models", None, "a-client")).status_code == 200
        assert (await call(stand, "GET", "/v1/models", None, None)).status_code == 401


class TestWithoutAnAdminKey:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(api_keys="a-client")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("method", "path", "body"), ADMIN_CALLS)
    @pytest.mark.parametrize("who", KEYS)
    async def test_admin_is_closed_and_says_which_setting_opens_it(
        self, stand: Stand, method: str, path: str, body: Any, who: str
    ):
        response = await call(stand, method, path, body, KEYS[who])
        assert (response.status_code, error_of(response)["code"]) == (403, "admin_closed")
        assert error_of(response)["type"] == "permission_error"
        assert "POLYMATH_ADMIN_KEY" in error_of(response)["message"]


class TestWithAnAdminKeyOnly:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(admin_key="the-admin")  # type: ignore[arg-type]

    async def test_v1_stays_open_and_admin_does_not(self, stand: Stand):
        assert (await call(stand, "GET", "/v1/models", None, None)).status_code == 200
        assert (await call(stand, "GET", "/admin/adapters", None, None)).status_code == 401

    async def test_refused_actions_are_in_the_audit_log(self, stand: Stand, audit: list[dict[str, Any]]):
        headers = {"authorization": "Bearer the-admin", "x-request-id": "mine"}
        await stand.client.post("/admin/adapters", json={"name": 1}, headers=headers)
        (line,) = audit
        assert (line["action"], line["outcome"], line["code"]) == ("load", "refused", "invalid_value")
        assert line["who"].startswith("key:")


def test_the_audit_log_is_told_at_every_level(capsys: pytest.CaptureFixture[str]):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("error", "json")
        logging.getLogger("server.audit").info("admin action", extra={"who": "key:1"})
        logging.getLogger("server.access").info("not told")
    finally:
        root.handlers[:], root.level = handlers, level
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["who"] == "key:1"
