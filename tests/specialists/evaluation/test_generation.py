"""The stream through a real engine on a tiny model: same answers as `generate`, requests read lazily."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.generation import EngineGenerator, GenerationRequest
from specialists.evaluation.grading import grade_as_they_come

PARAMS = SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def engine(tiny_qwen2: Path) -> LLMEngine:
    return LLMEngine(
        tiny_qwen2, EngineConfig(dtype="float32", max_num_seqs=2, max_model_len=256, num_blocks=64)
    )


def requests(count: int) -> Iterator[GenerationRequest]:
    for index in range(count):
        yield GenerationRequest(str(index), [{"role": "user", "content": f"number {index}"}], PARAMS)


def test_answers_equal_those_of_generate(engine: LLMEngine) -> None:
    answers = {one.key: one for one in EngineGenerator(engine)(requests(5))}
    prompts = [engine.tokenizer.encode_chat(request.messages) for request in requests(5)]
    for index, completion in enumerate(engine.generate(prompts, PARAMS)):
        assert answers[str(index)].text == completion.text
        assert answers[str(index)].num_tokens == 6
        assert answers[str(index)].is_cut


def test_requests_are_read_only_as_fast_as_they_are_answered(engine: LLMEngine) -> None:
    read: list[str] = []

    def watched() -> Iterator[GenerationRequest]:
        for request in requests(12):
            read.append(request.key)
            yield request

    stream = EngineGenerator(engine)(watched())
    next(stream)
    assert len(read) <= 4  # twice the batch of two
    assert len(list(stream)) == 11


def test_no_requests_make_no_answers(engine: LLMEngine) -> None:
    assert list(EngineGenerator(engine)(iter(()))) == []


def test_grades_come_in_order_and_errors_surface(engine: LLMEngine) -> None:
    generations = list(EngineGenerator(engine)(requests(3)))
    assert list(grade_as_they_come(generations, lambda one: one.key)) == [one.key for one in generations]
    with pytest.raises(ZeroDivisionError):
        list(grade_as_they_come(generations, lambda one: 1 // 0))
