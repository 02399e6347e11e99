"""Chat completions over scripted parts: bodies, headers, framing, refusals, faults."""

import asyncio

import pytest

from specialists.engine.async_engine import EngineDeadError, EngineOverloadedError
from specialists.engine.output import FinishReason
from tests.server.api.wire import error_of, events
from tests.server.conftest import Stand


async def test_a_whole_answer(stand: Stand):
    response = await stand.chat()
    assert response.status_code == 200
    body = response.json()
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == "math"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two three", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    stand.assert_nothing_held()


async def test_headers_name_the_route(stand: Stand):
    for stream in (False, True):
        headers = (await stand.chat(stream=stream)).headers
        assert headers["x-polymath-specialist"] == "math"
        assert headers["x-polymath-intent"] == "math"
        assert headers["x-polymath-confidence"] == "0.9000"
        assert headers["x-polymath-reason"] == "confident"
        assert headers["x-polymath-generation"] == "1"
        assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("model", "text", "specialist", "reason"),
    [
        ("auto", "3 times 4", "math", "confident"),
        ("auto", "write python", "code", "confident"),
        ("auto", "hola amigo", "base", "no_specialist"),
        ("auto", "perhaps", "base", "low_confidence"),
        ("auto", "good morning", "base", "confident"),
        ("auto", "", "base", "empty"),
        ("code", "3 times 4", "code", "requested"),
        ("loner", "3 times 4", "loner", "requested"),
        ("base", "3 times 4", "base", "requested"),
        ("tiny-base", "3 times 4", "base", "requested"),
    ],
)
async def test_who_answers(stand: Stand, model: str, text: str, specialist: str, reason: str):
    response = await stand.chat(
        model=model,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
    )
    assert response.json()["model"] == specialist
    assert response.headers["x-polymath-specialist"] == specialist
    assert response.headers["x-polymath-reason"] == reason
    adapter = stand.engine.adapters[0]
    assert (adapter.name if adapter else "base") == specialist


async def test_stream_framing(stand: Stand):
    response = await stand.chat(stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [choice["delta"] for choice in choices[1:-1]] == [
        {"content": "one "},
        {"content": "two "},
        {"content": "three"},
    ]
    assert choices[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    stand.assert_nothing_held()


async def test_stream_usage(stand: Stand):
    response = await stand.chat(stream=True, stream_options={"include_usage": True})
    *chunks, last, done = events(response.text)
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 6


async def test_text_survives_the_framing(stand: Stand):
    stand.engine.words = ("¿qué? ", 'say "hi"\n\n', "data: [DONE]\n\n", "\u2028 \x1b 日本")
    response = await stand.chat(stream=True)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in events(response.text)[:-1])
    assert text == "".join(stand.engine.words)


async def test_several_choices(stand: Stand):
    response = await stand.chat(n=3, seed=7)
    body = response.json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["prompt_tokens"] == 3
    assert body["usage"]["completion_tokens"] == 9
    assert [params.seed for params in stand.engine.params] == [7, 8, 9]
    assert stand.registry.num_acquired == 1
    stand.assert_nothing_held()


async def test_several_choices_streamed(stand: Stand):
    *chunks, done = events((await stand.chat(n=3, stream=True)).text)
    assert done == "[DONE]"
    for index in range(3):
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert choices[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in choices) == "one two three"
        assert choices[-1]["finish_reason"] == "stop"


async def test_sampling_reaches_the_engine(stand: Stand):
    await stand.chat(
        temperature=0.25,
        top_p=0.5,
        top_k=3,
        seed=-(2**63),
        stop=["a", "b"],
        max_completion_tokens=5,
        ignore_eos=True,
        user="someone",
        metadata={"k": "v"},
    )
    params = stand.engine.params[0]
    assert (params.temperature, params.top_p, params.top_k) == (0.25, 0.5, 3)
    assert params.stop == ("a", "b")
    assert params.max_tokens == 5
    assert params.ignore_eos
    assert params.seed is not None and 0 <= params.seed < 2**63


async def test_defaults_are_openais(stand: Stand):
    await stand.chat(stop="end", top_k=-1)
    params = stand.engine.params[0]
    assert (params.temperature, params.top_p, params.top_k, params.seed) == (1.0, 1.0, 0, None)
    assert params.stop == ("end",)
    assert params.max_tokens == stand.engine.max_model_len - 3
    assert not params.ignore_eos


async def test_engine_failure_before_the_first_token_has_a_status(stand: Stand):
    stand.engine.fault = EngineOverloadedError("queue full")
    for stream in (False, True):
        response = await stand.chat(stream=stream)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        error = error_of(response)
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    stand.engine.fault = EngineDeadError("thread died")
    response = await stand.chat()
    assert response.status_code == 503
    assert response.headers["retry-after"]
    stand.assert_nothing_held()


@pytest.mark.parametrize("num_choices", [1, 3])
@pytest.mark.parametrize("fault", [EngineDeadError("secret"), KeyError("secret")])
async def test_engine_failure_in_the_stream_is_an_error_event(
    stand: Stand, fault: Exception, num_choices: int
):
    stand.engine.fault, stand.engine.fault_after = fault, 2
    response = await stand.chat(stream=True, n=num_choices)
    assert response.status_code == 200
    *_, last = events(response.text)
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in response.text
    stand.assert_nothing_held()


async def test_an_answer_the_operator_ended(stand: Stand):
    stand.engine.finish = FinishReason.ABORTED
    response = await stand.chat()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert error_of(response)["code"] == "specialist_unloaded"
    *_, last = events((await stand.chat(stream=True)).text)
    assert last["error"]["code"] == "specialist_unloaded"
    stand.assert_nothing_held()


async def test_an_answer_the_engine_gave_up(stand: Stand):
    stand.engine.finish = FinishReason.FAILED
    response = await stand.chat()
    assert response.status_code == 500
    assert "scripted" not in error_of(response)["message"]
    *_, last = events((await stand.chat(stream=True)).text)
    assert last["error"]["type"] == "server_error"
    assert stand.metric("polymath_requests_total", specialist="math", outcome="failed") == 2
    stand.assert_nothing_held()


async def test_a_bug_tells_nothing(stand: Stand, caplog: pytest.LogCaptureFixture):
    stand.delegator.error = RuntimeError("a secret path")
    response = await stand.chat()
    assert response.status_code == 500
    error = error_of(response)
    assert "secret" not in response.text
    assert error["type"] == "server_error"
    assert "a secret path" in caplog.text
    stand.assert_nothing_held()


async def test_metrics_of_an_answer(stand: Stand):
    await stand.chat()
    await stand.chat(model="nobody")
    value = stand.metric
    assert value("polymath_requests_total", specialist="math", outcome="finished") == 1
    assert value("polymath_requests_total", specialist="none", outcome="refused") == 1
    assert value("polymath_prompt_tokens_total", specialist="math") == 3
    assert value("polymath_generation_tokens_total", specialist="math") == 3
    assert value("polymath_time_to_first_token_seconds_count", specialist="math") == 1
    assert value("polymath_e2e_request_latency_seconds_count", specialist="math") == 1
    assert value("polymath_routing_decisions_total", intent="math", reason="confident") == 1
    assert value("polymath_routing_seconds_count") == 1


async def test_answers_interleave(stand: Stand):
    stand.engine.gate = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(stand.chat(model=model)) for model in ("math", "code", "base", "math")]
    while len(stand.engine.running) < 4:
        await asyncio.sleep(0.001)
    assert stand.registry.held["math"] == 2
    assert stand.metric("polymath_requests_waiting") == 4
    for _ in range(12):
        stand.engine.gate.release()
    assert [response.json()["model"] for response in await asyncio.gather(*tasks)] == [
        "math",
        "code",
        "base",
        "math",
    ]
    stand.assert_nothing_held()
