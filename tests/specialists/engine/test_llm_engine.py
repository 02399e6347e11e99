"""One request from tokens to text: where it ends, what it says of itself, and what happens when a step fails."""

from collections.abc import Callable
from pathlib import Path

import pytest

from specialists.adapters.registry import AdapterRegistry
from specialists.engine.llm_engine import LLMEngine, PromptTooLongError
from specialists.engine.model_runner import ModelRunner
from specialists.engine.output import FinishReason, RequestOutput
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.scheduler_output import SchedulerOutput
from tests.specialists.conftest import MakeAdapter

PROMPT = list(range(20, 32))
GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)


def drain(engine: LLMEngine) -> dict[str, list[RequestOutput]]:
    outputs: dict[str, list[RequestOutput]] = {}
    while engine.has_unfinished:
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
    engine.scheduler.check_integrity()
    return outputs


def test_increments_join_to_the_whole_and_only_the_last_has_a_reason(tiny_engine: LLMEngine):
    (whole,) = tiny_engine.generate([PROMPT], GREEDY)
    tiny_engine.add_request("r", PROMPT, GREEDY)
    outputs = drain(tiny_engine)["r"]
    assert "".join(output.text for output in outputs) == whole.text
    assert [output.finish_reason for output in outputs] == [None] * 15 + [FinishReason.LENGTH]
    assert (outputs[-1].num_prompt_tokens, outputs[-1].num_completion_tokens) == (12, 16)


def test_ends_at_the_models_own_end_token_unless_told_to_go_on(tiny_engine: LLMEngine):
    end = min(tiny_engine.tokenizer.eos_token_ids)
    _force_token(tiny_engine, step=3, token_id=end)
    tiny_engine.add_request("r", PROMPT, SamplingParams(temperature=0, max_tokens=16))
    outputs = drain(tiny_engine)["r"]
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert outputs[-1].token_ids == (end,)
    assert "<|" not in "".join(output.text for output in outputs)
    _force_token(tiny_engine, step=3, token_id=end)
    tiny_engine.add_request("r", PROMPT, GREEDY)
    assert drain(tiny_engine)["r"][-1].num_completion_tokens == 16


def test_stop_string_ends_and_is_not_shown(tiny_engine: LLMEngine):
    (whole,) = tiny_engine.generate([PROMPT], GREEDY)
    stop = whole.text[5:8]
    params = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, stop=(stop,))
    (answer,) = tiny_engine.generate([PROMPT], params)
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.finish_reason is FinishReason.STOP


def test_answer_ends_where_the_context_ends(tiny_engine: LLMEngine):
    prompt = [30] * 250
    (answer,) = tiny_engine.generate([prompt], SamplingParams(temperature=0, max_tokens=100, ignore_eos=True))
    assert len(answer.token_ids) == 6
    assert answer.finish_reason is FinishReason.LENGTH


def test_refuses_prompts_it_cannot_run(tiny_engine: LLMEngine):
    with pytest.raises(PromptTooLongError, match=r"256 tokens.*below 256"):
        tiny_engine.add_request("r", [30] * 256, GREEDY)
    with pytest.raises(ValueError, match="no tokens"):
        tiny_engine.add_request("r", [], GREEDY)
    with pytest.raises(ValueError, match="outside 0 to 399"):
        tiny_engine.add_request("r", [1, 400], GREEDY)
    tiny_engine.add_request("r", PROMPT, GREEDY)
    with pytest.raises(ValueError, match="'r' is already running"):
        tiny_engine.add_request("r", PROMPT, GREEDY)


def test_abort_frees_everything_and_leaves_the_others_alone(tiny_engine: LLMEngine):
    (alone,) = tiny_engine.generate([PROMPT], GREEDY)
    tiny_engine.add_request("stays", PROMPT, GREEDY)
    tiny_engine.add_request("goes", list(range(40, 90)), GREEDY)
    for _ in range(4):
        tiny_engine.step()
    tiny_engine.abort("goes")
    tiny_engine.abort("goes")
    tiny_engine.abort("unknown")
    outputs = drain(tiny_engine)
    assert "goes" not in outputs
    tiny_engine.scheduler.check_integrity()
    assert tiny_engine.scheduler.blocks.num_free == tiny_engine.config.num_blocks
    assert alone.text.endswith("".join(output.text for output in outputs["stays"]))


def test_a_step_that_fails_once_costs_nobody_anything(tiny_engine: LLMEngine):
    expected = tiny_engine.generate([PROMPT], GREEDY)[0]
    _fail_once(tiny_engine, RuntimeError("out of luck"))
    for number in range(12):
        tiny_engine.add_request(str(number), PROMPT, GREEDY)
    outputs = drain(tiny_engine)
    for number in range(12):
        assert "".join(output.text for output in outputs[str(number)]) == expected.text


@pytest.mark.parametrize("when", ["prompt", "decode"])
def test_only_the_request_that_breaks_a_step_fails(tiny_engine: LLMEngine, when: str):
    expected = tiny_engine.generate([PROMPT], GREEDY)[0]
    execute = tiny_engine.runner.execute

    def breaking(output: SchedulerOutput) -> list[int | None]:
        planned = output.prefills if when == "prompt" else output.decodes
        if any(item.sequence.request_id == "poison" for item in planned):
            raise RuntimeError("out of luck")
        return execute(output)

    _replace_execute(tiny_engine.runner, breaking)
    for name in ("a", "poison", "b", "c"):
        tiny_engine.add_request(name, PROMPT, GREEDY)
    outputs = drain(tiny_engine)
    assert outputs["poison"][-1].finish_reason is FinishReason.FAILED
    assert outputs["poison"][-1].error == "RuntimeError: out of luck"
    for name in ("a", "b", "c"):
        assert "".join(output.text for output in outputs[name]) == expected.text
    tiny_engine.scheduler.check_integrity()
    assert tiny_engine.scheduler.blocks.num_free == tiny_engine.config.num_blocks
    assert tiny_engine.generate([PROMPT], GREEDY) == [expected]


def test_an_adapter_that_computes_nan_fails_alone_and_leaves_no_cache(
    tiny_engine: LLMEngine, tiny_qwen2: Path, tiny_registry: AdapterRegistry, make_adapter: MakeAdapter
):
    """Values that are finite in the file, and overflow when they are used."""
    expected = tiny_engine.generate([PROMPT], GREEDY)[0]
    wild = tiny_registry.load(make_adapter(tiny_qwen2, "wild", std=1e30))
    tiny_engine.add_request("base", PROMPT, GREEDY)
    tiny_engine.add_request("wild", PROMPT, GREEDY, wild)
    outputs = drain(tiny_engine)
    assert outputs["wild"][-1].finish_reason is FinishReason.FAILED
    assert outputs["wild"][-1].error == "the model's logits are not finite"
    assert "".join(output.text for output in outputs["base"]) == expected.text
    tiny_engine.add_request("again", PROMPT, GREEDY, wild)
    assert drain(tiny_engine)["again"][-1].num_cached_tokens == 0


def test_second_turn_reports_cached_tokens_and_says_the_same(tiny_engine: LLMEngine, tiny_qwen2: Path):
    (first,) = tiny_engine.generate([PROMPT], GREEDY)
    second_turn = [*PROMPT, *first.token_ids, 50, 51, 52]
    tiny_engine.add_request("again", second_turn, GREEDY)
    outputs = drain(tiny_engine)["again"]
    # 27 of 28 tokens were computed (the last was only sampled): six full blocks of four.
    assert outputs[-1].num_cached_tokens == 24
    (fresh,) = LLMEngine(tiny_qwen2, tiny_engine.config).generate([second_turn], GREEDY)
    assert "".join(output.text for output in outputs) == fresh.text


def test_a_reloaded_adapter_sees_nothing_of_the_old_one(
    tiny_engine: LLMEngine, tiny_qwen2: Path, make_adapter: MakeAdapter
):
    """Same name, changed weights: another generation, so neither its cache nor its slot is the old one's."""
    import torch

    from specialists.engine.qwen_config import read_qwen_config

    registries = [AdapterRegistry(read_qwen_config(tiny_qwen2), dtype=torch.float32) for _ in range(2)]
    old = registries[0].load(make_adapter(tiny_qwen2, "poet", seed=1))
    registries[1].load(make_adapter(tiny_qwen2, "other", seed=5))
    new = registries[1].load(make_adapter(tiny_qwen2, "poet", seed=2))
    assert (old.name, old.generation) != (new.name, new.generation)
    answers = [tiny_engine.generate([PROMPT], GREEDY, adapter)[0] for adapter in (old, new, old)]
    assert answers[0] == answers[2] != answers[1]
    (fresh,) = LLMEngine(tiny_qwen2, tiny_engine.config).generate([PROMPT], GREEDY, new)
    assert answers[1] == fresh


def _force_token(engine: LLMEngine, step: int, token_id: int) -> None:
    """Make the model say `token_id` in its n-th step from now: the tiny one has no reason to end."""
    execute = engine.runner.execute
    calls = iter(range(1, 10_000))

    def forced(output: SchedulerOutput) -> list[tuple[int, ...]]:
        token_ids = execute(output)
        return [(token_id,)] * len(token_ids) if next(calls) == step else token_ids

    _replace_execute(engine.runner, forced)


def _fail_once(engine: LLMEngine, error: Exception) -> None:
    execute = engine.runner.execute

    def failing(output: SchedulerOutput) -> list[tuple[int, ...]]:
        _replace_execute(engine.runner, execute)
        raise error

    _replace_execute(engine.runner, failing)


def _replace_execute(
    runner: ModelRunner, execute: Callable[[SchedulerOutput], list[tuple[int, ...]]]
) -> None:
    runner.execute = execute  # type: ignore[method-assign]
