"""The engine on the real default base in bf16, against transformers and PEFT.

Packed products sum in another order than transformers' own, so the last bits of bf16 logits differ. What is right is
what float32 says: at every position of the same text, the engine's bf16 logits must be as near to it as
transformers' own bf16 logits are, and the greedy token must be float32's wherever that leads by more than their error.
In float32, tokens are compared exactly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.scheduler_output import SchedulerOutput
from tests.specialists.conftest import MakeAdapter

pytestmark = pytest.mark.weights

# The engine's error may exceed that of transformers by this factor: both are draws of the same rounding noise.
SLACK = 1.25
QUESTIONS = (
    "Natalia sold clips to 48 of her friends in April, and half as many in May. How many did she sell altogether?",
    "Write a Python function that reverses a string.",
    "¿Cuál es la capital de Francia?",
    "Tell me about the ocean in two sentences.",
)


@pytest.fixture(scope="module")
def engine(base_folder: Path) -> LLMEngine:
    return LLMEngine(base_folder, EngineConfig(max_model_len=1024, num_blocks=512))


@pytest.fixture(scope="module")
def adapter_folders(base_folder: Path, make_adapter: MakeAdapter) -> list[Path]:
    return [
        make_adapter(base_folder, f"real{seed}", rank=8, seed=seed, std=0.02, dtype="bfloat16")
        for seed in (1, 2)
    ]


@pytest.fixture(scope="module")
def adapters(base_folder: Path, adapter_folders: list[Path]) -> list[LoadedAdapter | None]:
    registry = AdapterRegistry(read_qwen_config(base_folder))
    return [None, *(registry.load(folder) for folder in adapter_folders)]


@pytest.fixture(scope="module")
def reference(base_folder: Path, adapter_folders: list[Path]) -> Any:
    """A PEFT model with both adapters, in bf16 as transformers runs it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
    peft_model = PeftModel.from_pretrained(
        model, adapter_folders[0], adapter_name="1", autocast_adapter_dtype=False
    )
    peft_model.load_adapter(adapter_folders[1], adapter_name="2", autocast_adapter_dtype=False)
    return peft_model


def reference_logits(reference: Any, token_ids: list[int], adapter: int) -> torch.Tensor:
    with torch.inference_mode():
        if adapter == 0:
            with reference.disable_adapter():
                return reference(torch.tensor([token_ids])).logits[0].float()  # type: ignore[no-any-return]
        reference.set_adapter(str(adapter))
        return reference(torch.tensor([token_ids])).logits[0].float()  # type: ignore[no-any-return]


@contextmanager
def in_float32(reference: Any) -> Iterator[None]:
    """The same weights, computed with in float32."""
    reference.float()
    try:
        yield
    finally:
        reference.bfloat16()


def record_logits(engine: LLMEngine, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[torch.Tensor]]:
    """Keep the logits that each request's tokens were chosen from."""
    recorded: dict[str, list[torch.Tensor]] = {}
    forward = engine.runner.model.forward
    execute = engine.runner.execute
    seen: list[torch.Tensor] = []

    def recording_execute(output: SchedulerOutput) -> list[tuple[int, ...]]:
        completing = [item for item in output.scheduled if item.completes]
        token_ids = execute(output)
        rows = iter(seen.pop())
        for item, taken in zip(completing, token_ids, strict=True):
            own = list(islice(rows, 1 + len(item.draft)))
            recorded.setdefault(item.sequence.request_id, []).extend(own[: len(taken)])
        return token_ids

    def recording_forward(*arguments: Any) -> torch.Tensor:
        logits = forward(*arguments)
        seen.append(logits.float())
        return logits

    monkeypatch.setattr(engine.runner, "execute", recording_execute)
    monkeypatch.setattr(engine.runner.model, "forward", recording_forward)
    return recorded


def test_mixed_batch_agrees_with_peft_at_every_position(
    engine: LLMEngine,
    adapters: list[LoadedAdapter | None],
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    """Base and two adapters in one batch; prompts, then 24 tokens each."""
    recorded = record_logits(engine, monkeypatch)
    prompts = [engine.tokenizer.encode_chat([{"role": "user", "content": text}]) for text in QUESTIONS]
    chosen = [i % 3 for i in range(len(prompts))]
    params = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
    answers = engine.generate(prompts, params, [adapters[i] for i in chosen])
    texts = [[*prompt, *answer.token_ids] for prompt, answer in zip(prompts, answers, strict=True)]

    def answer_logits() -> torch.Tensor:
        rows = zip(prompts, texts, chosen, strict=True)
        return torch.cat(
            [
                reference_logits(reference, text, adapter)[len(prompt) - 1 : -1]
                for prompt, text, adapter in rows
            ]
        )

    in_bf16 = answer_logits()
    with in_float32(reference):
        exact = answer_logits()
    found = torch.cat([torch.stack(recorded[str(number)]) for number in range(len(prompts))])
    usual, ours = (in_bf16 - exact).abs(), (found - exact).abs()
    assert ours.mean() < SLACK * usual.mean()
    assert ours.amax(-1).mean() < SLACK * usual.amax(-1).mean()
    top = exact.topk(2, dim=-1)
    is_clear = top.values[:, 0] - top.values[:, 1] > 2 * usual.amax(-1)
    assert is_clear.sum() > len(exact) / 3, "too few clear choices for the comparison to mean anything"
    assert (found.argmax(-1) == top.indices[:, 0])[is_clear].all()
    assert len({answer.token_ids for answer in answers}) == len(answers)


def test_float32_says_token_for_token_what_peft_says(
    base_folder: Path, adapter_folders: list[Path], reference: Any
):
    """Without bf16's rounding there are no near ties to excuse anything: the tokens are the same."""
    engine = LLMEngine(base_folder, EngineConfig(dtype="float32", max_model_len=256, num_blocks=64))
    registry = AdapterRegistry(read_qwen_config(base_folder), dtype=torch.float32)
    adapters = [None, *(registry.load(folder) for folder in adapter_folders)]
    prompts = [engine.tokenizer.encode_chat([{"role": "user", "content": text}]) for text in QUESTIONS[:3]]
    answers = engine.generate(
        prompts, SamplingParams(temperature=0, max_tokens=12, ignore_eos=True), adapters
    )
    del engine
    with in_float32(reference):
        for adapter, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            logits = reference_logits(reference, [*prompt, *answer.token_ids], adapter)
            assert tuple(logits[len(prompt) - 1 : -1].argmax(-1).tolist()) == answer.token_ids


def test_adapters_change_the_answer(engine: LLMEngine, adapters: list[LoadedAdapter | None]):
    prompt = engine.tokenizer.encode_chat([{"role": "user", "content": QUESTIONS[0]}])
    params = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
    answers = engine.generate([prompt] * 3, params, adapters)
    assert len({answer.token_ids for answer in answers}) == 3


def test_batched_agrees_with_single_and_chunked_with_whole(engine: LLMEngine, base_folder: Path):
    """Row counts change the last bits here; tokens are compared up to the first near tie of the single run."""
    prompts = [engine.tokenizer.encode_chat([{"role": "user", "content": text}]) for text in QUESTIONS]
    params = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
    together = engine.generate(prompts * 4, params)
    chunked = LLMEngine(
        base_folder,
        EngineConfig(
            max_model_len=1024,
            num_blocks=512,
            max_num_batched_tokens=16,
            max_num_seqs=16,
            reuse_prefixes=False,
        ),
    ).generate(prompts, params)
    alone = [engine.generate([prompt], params)[0] for prompt in prompts]
    for number, answer in enumerate(alone):
        assert _agreement(answer.token_ids, chunked[number].token_ids) >= 8
        for copy in range(4):
            assert _agreement(answer.token_ids, together[4 * copy + number].token_ids) >= 8


def _agreement(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """How many tokens agree before the first that does not."""
    return next((i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b), len(first))
