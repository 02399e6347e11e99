"""Reading answers as a strict client would."""

import json
from typing import Any

import httpx


def events(text: str) -> list[Any]:
    """The parsed events of a stream; the last one is the string [DONE] when the stream ended well."""
    assert text.endswith("\n\n")
    blocks = text.removesuffix("\n\n").split("\n\n")
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    payloads = [block.removeprefix("data: ") for block in blocks]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of an answer in OpenAI's shape, with all four keys."""
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    assert response.headers["x-request-id"]
    return dict(error)
