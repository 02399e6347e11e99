"""Client keys: known, unknown, not needed."""

import pytest

from server.settings import Settings
from tests.server.api.wire import error_of
from tests.server.conftest import Stand

MESSAGES = [{"role": "user", "content": "3 times 4"}]


class TestKeys:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(api_keys="first,second")  # type: ignore[arg-type]

    @pytest.mark.parametrize("key", ["first", "second"])
    async def test_a_known_key(self, stand: Stand, key: str):
        for scheme in ("Bearer", "bearer"):
            response = await stand.client.get("/v1/models", headers={"authorization": f"{scheme} {key}"})
            assert response.status_code == 200

    @pytest.mark.parametrize(
        "header", [None, "", "first", "Bearer", "Bearer ", "Basic first", "Bearer third", "Bearer é"]
    )
    async def test_no_known_key(self, stand: Stand, header: str | None):
        headers = {} if header is None else {"authorization": header.encode()}
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/v1/route")):
            response = await stand.client.request(method, path, headers=headers, content=b"{broken")  # type: ignore[arg-type]
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            error = error_of(response)
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
            assert "third" not in error["message"]

    async def test_operations_stay_open(self, stand: Stand):
        for path in ("/health", "/ready", "/metrics"):
            assert (await stand.client.get(path)).status_code == 200
