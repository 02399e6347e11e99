"""OpenAI's own client against a real server: tiny engine, real adapters, real HTTP."""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from specialists.engine.sampling_params import SamplingParams
from tests.server.api.conftest import TinyServer

USER: Any = [{"role": "user", "content": "What is 3 times 4?"}]
GREEDY: Any = {"temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}


def text_of(stream: Iterable[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def test_streamed_and_whole_say_the_same(client: openai.OpenAI):
    whole = client.chat.completions.create(model="auto", messages=USER, **GREEDY)
    chunks = list(client.chat.completions.create(model="auto", messages=USER, stream=True, **GREEDY))
    assert whole.choices[0].message.content == text_of(chunks) != ""
    assert whole.model == chunks[0].model == "math"
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "length"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert whole.usage is not None and whole.usage.completion_tokens == 12


def test_each_model_is_itself(client: openai.OpenAI):
    answers = {
        model: client.chat.completions.create(model=model, messages=USER, **GREEDY)
        for model in ("base", "math", "code", "loner", "qwen2", "auto")
    }
    texts = {model: answer.choices[0].message.content for model, answer in answers.items()}
    assert len({texts[name] for name in ("base", "math", "code", "loner")}) == 4
    assert texts["qwen2"] == texts["base"]
    assert texts["auto"] == texts["math"]
    assert answers["qwen2"].model == "base"


def test_headers_through_the_client(client: openai.OpenAI):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=USER, **GREEDY)
    assert raw.headers["x-polymath-specialist"] == "math"
    assert raw.headers["x-polymath-generation"] == "3"  # code, loner and math were loaded in this order
    assert raw.headers["x-request-id"]
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=USER, stream=True, **GREEDY)
    assert raw.headers["x-polymath-reason"] == "confident"
    assert text_of(raw.parse())


def test_usage_in_the_stream(client: openai.OpenAI):
    chunks = list(
        client.chat.completions.create(
            model="code", messages=USER, stream=True, stream_options={"include_usage": True}, **GREEDY
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_seed_repeats_and_choices_differ(client: openai.OpenAI):
    def choices() -> list[str | None]:
        answer = client.chat.completions.create(
            model="math", messages=USER, n=4, seed=5, max_tokens=8, extra_body={"ignore_eos": True}
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        return [choice.message.content for choice in answer.choices]

    first = choices()
    assert first == choices()
    assert len(set(first)) > 1


def test_stop_strings_end_the_text(client: openai.OpenAI):
    whole = client.chat.completions.create(model="math", messages=USER, **GREEDY).choices[0].message.content
    assert whole
    stop = whole[3:5]
    answer = client.chat.completions.create(model="math", messages=USER, stop=["never said", stop], **GREEDY)
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_errors_reach_the_client_as_its_own(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="gpt-4o", messages=USER)
    assert not_found.value.code == "model_not_found"
    assert not_found.value.param == "model"
    with pytest.raises(openai.BadRequestError) as too_long:
        client.chat.completions.create(model="math", messages=[{"role": "user", "content": "word " * 400}])
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(model="math", messages=USER, presence_penalty=1)
    assert unsupported.value.param == "presence_penalty"


def test_models(client: openai.OpenAI):
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {"auto", "base", "math", "code", "loner"}
    assert models["math"].parent == "base"  # type: ignore[attr-defined]
    assert client.models.retrieve("loner").id == "loner"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_streams_of_all_models_at_once(client: openai.OpenAI):
    """Each of 24 concurrent answers is what it is alone, and nothing stays held."""
    models = ["base", "math", "code", "loner"]

    def answer(model: str) -> str:
        return text_of(client.chat.completions.create(model=model, messages=USER, stream=True, **GREEDY))

    alone = {model: answer(model) for model in models}
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(answer, models * 6))
    assert together == [alone[model] for model in models * 6]


def test_http_adds_and_loses_nothing(client: openai.OpenAI, tiny_server: TinyServer):
    """The same prompt straight into the engine gives the same text."""
    services = tiny_server.services

    async def direct() -> str:
        prompt = services.tokenizer.encode_chat(USER)
        params = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
        outputs = services.engine.generate("direct", prompt, params, services.registry.get("math"))
        return "".join([output.text async for output in outputs])

    expected = asyncio.run(direct())
    assert (
        client.chat.completions.create(model="math", messages=USER, **GREEDY).choices[0].message.content
        == expected
    )


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_everything(tiny_server: TinyServer, stream: bool):
    def num_aborted() -> float:
        labels = {"specialist": "math", "outcome": "aborted"}
        return (
            tiny_server.lifecycle.metrics.registry.get_sample_value("polymath_requests_total", labels) or 0.0
        )

    before = num_aborted()
    # Eight answers to the end of the context: much more than the engine can do before the client has left.
    body = {"model": "math", "messages": USER, "stream": stream, "ignore_eos": True, "n": 8}
    with httpx.Client(base_url=tiny_server.url) as client:
        if stream:
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=body, timeout=0.05)
    deadline = time.monotonic() + 30
    engine, lifecycle = tiny_server.services.engine, tiny_server.lifecycle
    while (
        num_aborted() == before or engine.num_requests or tiny_server.num_in_flight or lifecycle.num_requests
    ):
        assert time.monotonic() < deadline, "still held after the client left"
        time.sleep(0.005)
