"""The real thing: default base, published delegator and specialists, OpenAI's client, eight prompts.

What is asserted is who answers, not only that somebody does: a server that routes everything to one
specialist would pass any test of status codes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from server.lifecycle import Lifecycle
from server.loading import load_services
from server.settings import Settings
from tests.server.tiny import running

pytestmark = pytest.mark.weights

PROMPTS = {
    "Tom has 3 boxes with 12 pencils each. He gives away 9 pencils. How many has he left?": "math",
    "A train travels 60 km in 40 minutes. How far does it travel in 2 hours?": "math",
    "Write a Python function that reverses a string.": "code",
    "Why does this C++ loop never end? for (unsigned i = 10; i >= 0; i--) {}": "code",
    "Where would you put a plate after washing it? (A) cupboard (B) garden (C) car (D) oven": "commonsense",
    "Who painted the Mona Lisa?": "knowledge",
    "¿Cuál es la capital de Francia?": "spanish",
    "Hi, how are you?": "general",
}


@pytest.fixture(scope="module")
def client(
    polymath_home: Path, base_folder: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    settings = Settings(home=polymath_home, state_folder=tmp_path_factory.mktemp("state"))
    lifecycle = Lifecycle(settings, load_services)
    with (
        running(lifecycle) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=120) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def specialists(client: openai.OpenAI) -> set[str]:
    return {model.id for model in client.models.list()} - {"auto", "base"}


def test_the_published_specialists_are_loaded(specialists: set[str]):
    assert {"math", "code"} <= specialists


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prompt", "intent"), PROMPTS.items(), ids=[f"{i}-{n}" for n, i in enumerate(PROMPTS.values())]
)
def test_a_prompt_is_answered_by_its_specialist(
    client: openai.OpenAI, specialists: set[str], prompt: str, intent: str, stream: bool
):
    request: Any = {
        "model": "auto",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 24,
    }
    raw = client.chat.completions.with_raw_response.create(stream=stream, **request)
    served = intent in specialists
    assert raw.headers["x-polymath-intent"] == intent
    assert raw.headers["x-polymath-specialist"] == (intent if served else "base")
    reason = "out_of_scope" if intent == "general" else "confident" if served else "no_specialist"
    assert raw.headers["x-polymath-reason"] == reason
    assert 0 < float(raw.headers["x-polymath-confidence"]) <= 1
    answer: Any = raw.parse()
    if stream:
        chunks = list(answer)
        model, text = chunks[0].model, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    else:
        model, text = answer.model, answer.choices[0].message.content
    assert model == (intent if served else "base")
    assert text.strip()
