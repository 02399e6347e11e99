"""Guessing changes how many steps an answer takes, never what it says."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.prompt_lookup import NGRAM, PromptLookup
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampler import agreed
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.scheduler import Scheduler
from tests.specialists.conftest import MakeAdapter
from tests.specialists.engine.compiled import kernels_or_skip
from tests.specialists.engine.test_scheduler import make_config, make_sequence

PROMPTS = [[30, 31, 32, 33] * 6, [40, 41, 42, 40, 41, 42, 40, 41], [50, 51] * 9, [60, 61, 62]]
SETTINGS = [
    SamplingParams(temperature=0, max_tokens=40, ignore_eos=True),
    SamplingParams(temperature=0.7, max_tokens=40, ignore_eos=True, seed=3, top_k=4),
]


def after_the_last_like_the_end(tokens: Sequence[int], limit: int) -> tuple[int, ...]:
    for place in range(len(tokens) - 1, NGRAM - 1, -1):
        if tokens[place - NGRAM : place] == tokens[-NGRAM:]:
            return tuple(tokens[place : place + limit])
    return ()


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=12), st.integers(1, 7)
)
def test_proposes_what_came_after_the_last_place_like_the_end(pieces: list[list[int]], limit: int):
    lookup, tokens = PromptLookup(), [9]
    for piece in pieces:
        tokens += piece
        assert lookup.propose(tokens, limit) == after_the_last_like_the_end(tokens, limit)


@pytest.mark.parametrize(
    ("draft", "token_ids", "taken"),
    [
        ((), [5], (5,)),
        ((), [None], ()),
        ((5, 6), [5, 6, 7], (5, 6, 7)),
        ((5, 6), [5, 8, 7], (5, 8)),
        ((5, 6), [8, 6, 7], (8,)),
        ((5, 6), [5, None, 7], (5,)),
        ((5, 6), [None, 6, 7], ()),
    ],
)
def test_a_step_yields_what_was_guessed_right_and_one_more(
    draft: tuple[int, ...], token_ids: list[int | None], taken: tuple[int, ...]
):
    assert agreed(draft, token_ids) == taken


def run(
    engine: LLMEngine, prompts: list[list[int]], params: SamplingParams, adapters: list[LoadedAdapter | None]
):
    """The answers' tokens, and how many steps they took together."""
    for number, (prompt, adapter) in enumerate(zip(prompts, adapters, strict=True)):
        engine.add_request(str(number), prompt, params, adapter)
    tokens: dict[str, list[int]] = {}
    num_steps = 0
    while engine.has_unfinished:
        for output in engine.step():
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
        engine.scheduler.check_integrity()
        num_steps += 1
    return tokens, num_steps


def load(base: Path, *folders: Path, dtype: torch.dtype) -> list[LoadedAdapter | None]:
    registry = AdapterRegistry(read_qwen_config(base), dtype=dtype)
    return [*(registry.load(folder) for folder in folders), None, None]


def guess_from(monkeypatch: pytest.MonkeyPatch, texts: list[list[int]]) -> None:
    """Make guesses come from `texts`, every sixth place wrong: a tiny random model never repeats itself."""

    def propose(_: PromptLookup, token_ids: Sequence[int], limit: int) -> tuple[int, ...]:
        (text,) = (text for text in texts if text[: len(token_ids)] == token_ids)
        start = len(token_ids)
        places = range(start, min(start + limit, len(text)))
        return tuple(text[place] + (1 if place % 6 == 0 else 0) for place in places)

    monkeypatch.setattr(PromptLookup, "propose", propose)


def whole(prompts: list[list[int]], answers: dict[str, list[int]]) -> list[list[int]]:
    return [[*prompt, *answers[str(number)]] for number, prompt in enumerate(prompts)]


@pytest.mark.parametrize("params", SETTINGS, ids=["greedy", "sampled"])
@pytest.mark.parametrize("num_streams", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_the_same_tokens_in_fewer_steps(
    tiny_qwen2: Path,
    tiny_config: EngineConfig,
    make_adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    params: SamplingParams,
    num_streams: int,
    dtype: str,
):
    """In float32 by torch's operations, in bf16 by the native ones, whose rows are exactly alike in any company."""
    config = replace(tiny_config, num_blocks=64, block_size=8)
    if dtype == "bfloat16":
        kernels_or_skip(with_products=True)
        config = replace(config, dtype="bfloat16", kernels="native", batch_invariant=True)
    folders = [make_adapter(tiny_qwen2, "a", seed=1), make_adapter(tiny_qwen2, "b", seed=2)]
    adapters = load(tiny_qwen2, *folders, dtype=getattr(torch, dtype))[:num_streams]
    prompts = PROMPTS[:num_streams]
    plain = run(LLMEngine(tiny_qwen2, replace(config, max_draft_rows=0)), prompts, params, adapters)
    guess_from(monkeypatch, whole(prompts, plain[0]))
    guessing = run(LLMEngine(tiny_qwen2, config), prompts, params, adapters)
    assert guessing[0] == plain[0]
    assert guessing[1] < 0.75 * plain[1]


def test_what_was_guessed_right_is_a_beginning_that_others_may_share(
    tiny_qwen2: Path, tiny_config: EngineConfig, monkeypatch: pytest.MonkeyPatch
):
    params = SETTINGS[0]
    plain = run(LLMEngine(tiny_qwen2, tiny_config), PROMPTS[:1], params, [None])[0]
    engine = LLMEngine(tiny_qwen2, tiny_config)
    with monkeypatch.context() as patched:
        guess_from(patched, whole(PROMPTS[:1], plain))
        assert run(engine, PROMPTS[:1], params, [None])[1] < 30
    second = [*PROMPTS[0], *plain["0"], 35, 36]
    engine.add_request("again", second, params)
    outputs = []
    while engine.has_unfinished:
        outputs += engine.step()
    assert outputs[-1].num_cached_tokens > len(PROMPTS[0])
    fresh = run(LLMEngine(tiny_qwen2, tiny_config), [second], params, [None])[0]["0"]
    assert [token for output in outputs for token in output.token_ids] == fresh


def test_nothing_follows_the_token_that_ends_an_answer(
    tiny_qwen2: Path, tiny_config: EngineConfig, monkeypatch: pytest.MonkeyPatch
):
    engine = LLMEngine(tiny_qwen2, replace(tiny_config, max_draft_rows=0))
    plain = engine.generate(PROMPTS[:1], SETTINGS[0])[0]
    stop = plain.text[9:12]
    params = replace(SETTINGS[0], stop=(stop,))
    (expected,) = engine.generate(PROMPTS[:1], params)
    guess_from(monkeypatch, [[*PROMPTS[0], *plain.token_ids]])
    (answer,) = LLMEngine(tiny_qwen2, tiny_config).generate(PROMPTS[:1], params)
    assert answer == expected


def drafting(**changes: int) -> tuple[Scheduler, list[int]]:
    """A scheduler with one stream whose tokens repeat; its prompt has been computed."""
    scheduler = Scheduler(make_config(max_draft_rows=8, **changes))
    sequence = make_sequence("a", 4, max_tokens=8)
    sequence.token_ids[:] = [1, 2, 1, 2]
    scheduler.add(sequence)
    scheduler.advance(scheduler.schedule())
    sequence.append(1)
    return scheduler, sequence.token_ids


def test_guesses_only_where_nobody_waits():
    scheduler, _ = drafting()
    assert scheduler.schedule().decodes[0].draft == (2, 1)
    scheduler.add(make_sequence("b", 3))
    plan = scheduler.schedule()
    assert plan.decodes[0].draft == () and plan.prefills


def test_guesses_end_where_the_answer_must():
    scheduler, token_ids = drafting()
    token_ids += [2, 1, 2, 1, 2]
    scheduler.running[0].num_computed = len(token_ids) - 1
    assert (
        len(scheduler.schedule().decodes[0].draft) == 1
    )  # the tenth token of twelve; the step itself yields another


def test_guesses_take_no_blocks_that_are_not_there():
    scheduler, _ = drafting(num_blocks=16)
    while scheduler.blocks.num_free:
        scheduler.blocks._take()
    scheduler.running[0].token_ids.pop()
    scheduler.running[0].num_computed -= 1
    assert scheduler.schedule().decodes[0].draft == ()


def test_none_where_they_are_switched_off_or_watched():
    scheduler, _ = drafting()
    scheduler.running[0].probe = lambda logits: None
    assert scheduler.schedule().decodes[0].draft == ()
    scheduler, _ = drafting(max_num_batched_tokens=4)
    assert len(scheduler.schedule().decodes[0].draft) <= 3
