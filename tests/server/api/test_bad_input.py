"""Every request that cannot be served is refused with a 400 (or its own status) that names the field."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from server.api.schemas import ChatCompletionRequest
from server.settings import Settings
from tests.server.api.wire import error_of
from tests.server.conftest import Stand

USER = {"role": "user", "content": "3 times 4"}


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


FIELDS: list[tuple[dict[str, Any], str, str]] = [
    # model and messages
    ({"model": 5}, "model", "invalid_value"),
    ({"model": None}, "model", "invalid_value"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": None}, "messages", "invalid_value"),
    ({"messages": "hi"}, "messages", "invalid_value"),
    ({"messages": ["hi"]}, "messages.0", "invalid_value"),
    ({"messages": [USER, {"role": "wizard", "content": "hi"}]}, "messages.1.role", "invalid_value"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages.0.role", "invalid_value"),
    ({"messages": [{"content": "hi"}]}, "messages.0.role", "missing_required_parameter"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter"),
    ({"messages": user(None)}, "messages.0.content", "invalid_value"),
    ({"messages": user(7)}, "messages.0.content", "invalid_value"),
    ({"messages": user([])}, "messages.0.content", "invalid_value"),
    ({"messages": user(["hi"])}, "messages.0.content.0", "invalid_value"),
    (
        {"messages": user([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}])},
        "messages.0.content.1.type",
        "invalid_value",
    ),
    ({"messages": user([{"type": "text"}])}, "messages.0.content.0.text", "missing_required_parameter"),
    ({"messages": user("a\x00b")}, "messages.0.content", "invalid_value"),
    ({"messages": user("\ud800")}, "messages.0.content", "invalid_value"),
    ({"messages": user([{"type": "text", "text": "\udc00"}])}, "messages.0.content.0.text", "invalid_value"),
    ({"messages": [{**USER, "name": "bob"}]}, "messages.0.name", "unsupported_parameter"),
    ({"messages": [{**USER, "tool_calls": [{}]}]}, "messages.0.tool_calls", "unsupported_parameter"),
    ({"messages": [{**USER, "mood": "good"}]}, "messages.0.mood", "unrecognized_parameter"),
    # numbers
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": -1}, "max_tokens", "invalid_value"),
    ({"max_tokens": 2.5}, "max_tokens", "invalid_value"),
    ({"max_tokens": "5"}, "max_tokens", "invalid_value"),
    ({"max_tokens": True}, "max_tokens", "invalid_value"),
    ({"max_tokens": 62}, "max_tokens", "context_length_exceeded"),
    ({"max_tokens": 10**30}, "max_tokens", "context_length_exceeded"),
    ({"max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
    ({"max_completion_tokens": 10**30}, "max_completion_tokens", "context_length_exceeded"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_completion_tokens", "conflicting_parameters"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 9}, "n", "invalid_value"),
    ({"temperature": -0.1}, "temperature", "invalid_value"),
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_value"),
    ({"top_p": 0}, "top_p", "invalid_value"),
    ({"top_p": 1.5}, "top_p", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"seed": 1.5}, "seed", "invalid_value"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    # stop and stream
    ({"stop": ""}, "stop", "invalid_value"),
    ({"stop": ["a", ""]}, "stop.1", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
    ({"stop": 3}, "stop", "invalid_value"),
    ({"stop": [3]}, "stop.0", "invalid_value"),
    ({"stream": "yes"}, "stream", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "conflicting_parameters"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unrecognized_parameter"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        "unsupported_parameter",
    ),
    ({"metadata": {"k": 5}}, "metadata.k", "invalid_value"),
    # what OpenAI has and this server has not
    ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    ({"tool_choice": "auto"}, "tool_choice", "unsupported_parameter"),
    ({"functions": [{}]}, "functions", "unsupported_parameter"),
    ({"function_call": "auto"}, "function_call", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"logprobs": True}, "logprobs", "unsupported_parameter"),
    ({"logprobs": 0}, "logprobs", "unsupported_parameter"),
    ({"top_logprobs": 3}, "top_logprobs", "unsupported_parameter"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
    ({"presence_penalty": 0.5}, "presence_penalty", "unsupported_parameter"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
    ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
    ({"prediction": {"type": "content"}}, "prediction", "unsupported_parameter"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
    ({"store": True}, "store", "unsupported_parameter"),
    ({"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
    ({"verbosity": "high"}, "verbosity", "unsupported_parameter"),
    # what nobody has
    ({"best_of": 2}, "best_of", "unrecognized_parameter"),
    ({"temprature": 0}, "temprature", "unrecognized_parameter"),
]


@pytest.mark.parametrize(
    ("fields", "param", "code"), FIELDS, ids=[f"{p}-{i}" for i, (_, p, _) in enumerate(FIELDS)]
)
async def test_a_field_is_refused_by_name(stand: Stand, fields: dict[str, Any], param: str, code: str):
    # json.dumps writes surrogates and huge numbers as a client may; httpx would not.
    response = await post(stand, json.dumps({"model": "auto", "messages": [USER], **fields}).encode())
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]
    assert not stand.engine.params
    stand.assert_nothing_held()
    assert (await stand.chat()).status_code == 200  # and goes on serving


async def test_half_a_surrogate_as_a_key(stand: Stand):
    for body in (rb'{"\ud800": 1}', rb'{"messages": [{"\ud800": 1}]}', rb'{"metadata": {"\ud800": "x"}}'):
        response = await post(stand, body)
        assert response.status_code == 400
        assert error_of(response)


HARMLESS: list[dict[str, Any]] = [
    {
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "functions": [],
        "function_call": "none",
    },
    {"response_format": {"type": "text"}, "logprobs": False, "top_logprobs": 0, "logit_bias": {}},
    {"presence_penalty": 0, "frequency_penalty": 0.0, "modalities": ["text"], "store": False},
    {"service_tier": "auto", "verbosity": "medium", "reasoning_effort": "none"},
    dict.fromkeys(set(ChatCompletionRequest.model_fields) - {"model", "messages"}),
]


@pytest.mark.parametrize("fields", HARMLESS)
async def test_defaults_change_nothing_and_pass(stand: Stand, fields: dict[str, Any]):
    response = await stand.chat(**fields)
    assert response.status_code == 200, response.text


async def test_an_answer_can_be_sent_back_as_it_came(stand: Stand):
    message = (await stand.chat()).json()["choices"][0]["message"]
    from_sdk = {**message, "tool_calls": None, "function_call": None, "audio": None, "annotations": []}
    response = await stand.chat(messages=[USER, message, USER, from_sdk, USER])
    assert response.status_code == 200, response.text


async def test_parts_and_developer_are_read(stand: Stand):
    parts = [{"type": "text", "text": "3 times"}, {"type": "text", "text": "4"}]
    response = await stand.chat(messages=[{"role": "developer", "content": "Be brief."}, *user(parts)])
    assert response.json()["usage"]["prompt_tokens"] == 5
    assert response.json()["model"] == "math"


async def test_an_unknown_model_is_a_404_and_never_the_base(stand: Stand):
    for model in ("gpt-4o", "Math", "math ", "", "../math", "x" * 5000):
        response = await stand.chat(model=model)
        assert response.status_code == 404
        error = error_of(response)
        assert (error["code"], error["param"], error["type"]) == (
            "model_not_found",
            "model",
            "invalid_request_error",
        )
        assert len(error["message"]) < 300
    assert not stand.engine.params


async def test_a_prompt_longer_than_the_context(stand: Stand):
    for length, status in ((63, 200), (64, 400), (1000, 400)):
        response = await stand.chat(messages=user("word " * length))
        assert response.status_code == status
    error = error_of(response)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "1000" in error["message"] and "63" in error["message"]
    stand.assert_nothing_held()


async def test_max_tokens_says_what_is_allowed(stand: Stand):
    assert (await stand.chat(max_tokens=61)).status_code == 200
    message = error_of(await stand.chat(max_tokens=62))["message"]
    assert "62" in message and "61" in message


BODIES: list[tuple[bytes, str]] = [
    (b"", "invalid_json"),
    (b"{", "invalid_json"),
    (b'{"model": "auto",}', "invalid_json"),
    (b"\xff\xfe\x00", "invalid_json"),
    (b'{"model": "auto", "temperature": NaN}', "invalid_json"),
    (b'{"model": "auto", "temperature": -Infinity}', "invalid_json"),
    (b'{"model": "auto", "max_tokens": ' + b"9" * 5000 + b"}", "invalid_json"),
    (b"[" * 100_000, "invalid_json"),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "invalid_json"),
    (b"[]", "invalid_value"),
    (b'"text"', "invalid_value"),
    (b"null", "invalid_value"),
]


async def post(stand: Stand, body: bytes, **headers: str) -> httpx.Response:
    headers = {"content-type": "application/json", **headers}
    return await stand.client.post("/v1/chat/completions", content=body, headers=headers)


@pytest.mark.parametrize(("body", "code"), BODIES, ids=[body[:24].decode("latin-1") for body, _ in BODIES])
async def test_malformed_json(stand: Stand, body: bytes, code: str):
    response = await post(stand, body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, None)
    assert len(error["message"]) < 300


async def test_a_number_too_large_for_a_float(stand: Stand):
    response = await post(
        stand, b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}'
    )
    assert response.status_code == 400
    assert error_of(response)["param"] == "temperature"


async def test_the_body_must_say_that_it_is_json(stand: Stand):
    response = await post(stand, b"{}", **{"content-type": "text/plain"})
    assert response.status_code == 415
    assert error_of(response)["code"] == "unsupported_media_type"


class TestBodySize:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_body_bytes=2000)

    async def test_declared_too_large(self, stand: Stand):
        response = await post(stand, b" " * 2001)
        assert response.status_code == 413
        assert error_of(response)["code"] == "request_too_large"

    async def test_sent_too_large(self, stand: Stand):
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(300):
                yield b" " * 10

        headers = {"content-type": "application/json"}
        response = await stand.client.post("/v1/chat/completions", content=pieces(), headers=headers)
        assert response.status_code == 413
        assert error_of(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/chat", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
    ],
)
async def test_paths_and_methods(stand: Stand, method: str, path: str, status: int):
    response = await stand.client.request(method, path)
    assert response.status_code == status
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert path in error["message"]
    if status == 405:
        assert error["code"] == "method_not_supported"
        assert response.headers["allow"]
