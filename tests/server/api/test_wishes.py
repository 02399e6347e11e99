"""What a request wishes of its routing reaches the delegator, and what it may not wish is a 400 that names it."""

import json
from typing import Any

import pytest

from tests.server.api.wire import error_of
from tests.server.conftest import Stand

MATH = [{"role": "user", "content": "3 times 4"}]
SPANISH = [{"role": "user", "content": "hola"}]


async def test_the_body_the_header_and_the_user_reach_the_delegator(stand: Stand):
    await stand.chat(polymath={"session": "s", "explain": True}, user="u")
    await stand.client.post(
        "/v1/chat/completions",
        json={"model": "auto", "messages": MATH},
        headers={"X-Polymath-Session": "from-header"},
    )
    await stand.client.post("/v1/route", json={"messages": MATH, "user": "u", "polymath": {"session": "s"}})
    served, by_header, asked = stand.delegator.options
    assert (served.session, served.user, served.explain, served.remember) == ("s", "u", True, True)
    assert (by_header.session, by_header.explain) == ("from-header", False)
    # A question about routing leaves the session alone.
    assert (asked.session, asked.user, asked.explain, asked.remember) == ("s", "u", True, False)


async def test_candidates_are_names_of_specialists(stand: Stand):
    body = (await stand.chat(polymath={"candidates": ["math"]})).json()
    assert body["model"] == "math"
    assert stand.delegator.options[-1].candidates == frozenset({"math"})
    other = await stand.chat(polymath={"candidates": ["base", "tiny-base"]})
    assert (other.json()["model"], other.headers["x-polymath-reason"]) == ("base", "out_of_scope")


@pytest.mark.parametrize(
    ("fields", "param", "problem"),
    [
        ({"polymath": {"candidates": ["nobody"]}}, "polymath.candidates", "'nobody' is not loaded"),
        ({"polymath": {"candidates": []}}, "polymath.candidates", "at least 1"),
        ({"polymath": {"candidates": "math"}}, "polymath.candidates", "list"),
        ({"polymath": {"candidate": ["math"]}}, "polymath.candidate", ""),
        ({"polymath": {"explain": "yes"}}, "polymath.explain", ""),
        ({"polymath": {"session": ""}}, "polymath.session", "at least 1"),
        ({"polymath": {"session": "x" * 257}}, "polymath.session", "at most 256"),
        ({"polymath": 3}, "polymath", ""),
        (
            {"model": "math", "polymath": {"candidates": ["math"]}},
            "polymath.candidates",
            "only be given with model",
        ),
    ],
)
async def test_a_bad_wish_is_named(stand: Stand, fields: dict[str, Any], param: str, problem: str):
    for path in ("/v1/chat/completions", "/v1/route"):
        response = await stand.client.post(path, json={"model": "auto", "messages": MATH, **fields})
        assert response.status_code == 400
        error = error_of(response)
        assert error["param"] == param
        assert problem in error["message"]
    stand.assert_nothing_held()


@pytest.mark.parametrize(
    ("header", "body", "param"),
    [("x" * 257, {}, "x-polymath-session"), ("a", {"session": "b"}, "polymath.session")],
)
async def test_a_bad_session_header(stand: Stand, header: str, body: dict[str, Any], param: str):
    response = await stand.client.post(
        "/v1/chat/completions",
        json={"model": "auto", "messages": MATH, "polymath": body},
        headers={"X-Polymath-Session": header},
    )
    assert response.status_code == 400
    assert error_of(response)["param"] == param


async def test_an_answer_explains_itself_when_asked(stand: Stand):
    silent = (await stand.chat()).json()
    assert "polymath" not in silent
    explained = (await stand.chat(polymath={"explain": True, "session": "s"})).json()["polymath"]
    routed = await stand.client.post("/v1/route", json={"messages": MATH, "polymath": {"session": "s"}})
    assert explained == routed.json()
    assert explained["nearest"] == [{"text": "2 times 3", "intent": "math", "similarity": 0.75}]
    assert explained["session"] == {"intent": "math", "turns": 2}
    assert explained["specialist"] == "math"
    assert {"scores", "threshold", "margin", "route_ms", "reason"} <= set(explained)


async def test_a_stream_explains_itself_in_its_first_chunk(stand: Stand):
    response = await stand.chat(stream=True, polymath={"explain": True})
    chunks = [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: {")]
    assert chunks[0]["polymath"]["intent"] == "math"
    assert not any("polymath" in chunk for chunk in chunks[1:])


async def test_decisions_are_counted(stand: Stand):
    await stand.chat()
    await stand.chat(messages=SPANISH)
    await stand.chat(messages=[{"role": "user", "content": "perhaps"}])
    await stand.chat(model="math")
    assert stand.metric("polymath_routing_decisions_total", intent="math", reason="confident") == 1
    assert stand.metric("polymath_routing_decisions_total", intent="math", reason="requested") == 1
    assert stand.metric("polymath_routing_fallbacks_total", reason="low_confidence") == 1
    assert stand.metric("polymath_routing_confidence_count") == 3
    assert stand.metric("polymath_routing_confidence_bucket", le="0.3") == 1
    assert stand.metric("polymath_routing_seconds_count") == 3


@pytest.mark.parametrize("content", ["", "   ", "\n"])
async def test_an_empty_prompt_has_a_decision(stand: Stand, content: str):
    response = await stand.client.post("/v1/route", json={"messages": [{"role": "user", "content": content}]})
    assert response.status_code == 200
    assert (response.json()["specialist"], response.json()["reason"]) == ("base", "empty")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "wizard", "content": "hi"},
        {"role": "tool", "content": "hi", "tool_call_id": "x"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "user", "content": []},
        {"role": "user", "content": None},
        {"role": "user", "content": "\x00"},
    ],
)
async def test_what_is_no_text_is_a_clear_400(stand: Stand, message: dict[str, Any]):
    response = await stand.client.post("/v1/route", json={"messages": [message]})
    assert response.status_code == 400
    assert error_of(response)["param"].startswith("messages.0.")
