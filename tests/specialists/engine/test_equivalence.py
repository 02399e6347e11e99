"""The strongest tests: the engine says token for token what transformers and PEFT say, whoever shares the batch.

In float32 on tiny models, exactly. In bf16 on the real base two orders of summation differ in the last bits, so there
the logits are compared within a tolerance, at every position of the same text, and tokens wherever the reference
is not within that tolerance of a tie.
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from tests.specialists.conftest import MakeAdapter

NUM_NEW = 24
PROMPT_LENGTHS = (3, 17, 40, 9, 28)


def prompts(count: int = 5, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(0, 300, (PROMPT_LENGTHS[i % len(PROMPT_LENGTHS)],), generator=generator).tolist()
        for i in range(count)
    ]


def greedy(max_tokens: int = NUM_NEW) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)


def reference(base: Path, prompt: list[int], adapter: Path | None, num_new: int = NUM_NEW) -> tuple[int, ...]:
    """Greedy tokens by transformers, with PEFT's own application of the adapter."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        for _ in range(num_new):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return tuple(ids[0, len(prompt) :].tolist())


@pytest.fixture(params=["tiny_qwen2", "tiny_qwen3"])
def tiny_base(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def load(base: Path, *folders: Path) -> list[LoadedAdapter]:
    registry = AdapterRegistry(read_qwen_config(base), dtype=torch.float32)
    return [registry.load(folder) for folder in folders]


def test_base_equals_transformers(tiny_base: Path, tiny_config: EngineConfig):
    answers = LLMEngine(tiny_base, tiny_config).generate(prompts(), greedy())
    expected = [reference(tiny_base, prompt, None) for prompt in prompts()]
    assert [answer.token_ids for answer in answers] == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize(
    "lora",
    [
        {"rank": 4},
        {"rank": 16, "use_rslora": True, "lora_alpha": 8},
        {"rank": 1, "targets": ["q_proj", "down_proj"]},
        {"rank": 3, "targets": ["v_proj", "up_proj", "o_proj"], "lora_alpha": 5},
        {"rank": 2, "targets": ["k_proj"], "lora_alpha": 20},
        {"rank": 8, "layers_to_transform": [1]},
    ],
    ids=["all", "rslora", "two-targets", "three-targets", "k-only", "one-layer"],
)
def test_adapter_equals_peft(
    tiny_base: Path, tiny_config: EngineConfig, make_adapter: MakeAdapter, lora: dict[str, object]
):
    folder = make_adapter(tiny_base, "one", seed=3, **lora)
    (adapter,) = load(tiny_base, folder)
    answers = LLMEngine(tiny_base, tiny_config).generate(prompts(3), greedy(), adapter)
    expected = [reference(tiny_base, prompt, folder) for prompt in prompts(3)]
    assert [answer.token_ids for answer in answers] == expected
    assert expected != [reference(tiny_base, prompt, None) for prompt in prompts(3)]


def test_mixed_batch_of_four_adapters_and_base_equals_each_alone(
    tiny_base: Path, tiny_config: EngineConfig, make_adapter: MakeAdapter
):
    folders = [
        make_adapter(tiny_base, "a", rank=4, seed=1),
        make_adapter(tiny_base, "b", rank=8, seed=2, use_rslora=True),
        make_adapter(tiny_base, "c", rank=2, seed=3, targets=["q_proj", "v_proj"]),
        make_adapter(tiny_base, "d", rank=16, seed=4, targets=["gate_proj", "down_proj"]),
    ]
    adapters: list[LoadedAdapter | None] = [*load(tiny_base, *folders), None]
    paths: list[Path | None] = [*folders, None]
    engine = LLMEngine(tiny_base, tiny_config)
    mixed = engine.generate(prompts(10), greedy(), [adapters[i % 5] for i in range(10)])
    alone = [engine.generate([prompt], greedy(), adapters[i % 5])[0] for i, prompt in enumerate(prompts(10))]
    assert [answer.token_ids for answer in mixed] == [answer.token_ids for answer in alone]
    expected = [reference(tiny_base, prompt, paths[i]) for i, prompt in enumerate(prompts(5))]
    assert [answer.token_ids for answer in mixed[:5]] == expected
    assert len(set(expected)) == 5


def test_batched_equals_single(tiny_engine: LLMEngine):
    together = tiny_engine.generate(prompts(12), greedy())
    assert together == [tiny_engine.generate([prompt], greedy())[0] for prompt in prompts(12)]


def test_chunked_prompt_equals_whole(tiny_qwen2: Path, tiny_config: EngineConfig):
    from dataclasses import replace

    long_prompts = [list(range(5, 205)), list(range(100, 250))]
    whole = LLMEngine(tiny_qwen2, replace(tiny_config, max_num_batched_tokens=256))
    chunked = LLMEngine(tiny_qwen2, replace(tiny_config, max_num_batched_tokens=13))
    assert whole.generate(long_prompts, greedy()) == chunked.generate(long_prompts, greedy())


def test_preempted_equals_undisturbed(tiny_qwen2: Path, tiny_config: EngineConfig):
    from dataclasses import replace

    roomy = LLMEngine(tiny_qwen2, tiny_config)
    cramped = LLMEngine(tiny_qwen2, replace(tiny_config, num_blocks=16, max_model_len=64))
    expected = roomy.generate(prompts(6), greedy())
    assert cramped.generate(prompts(6), greedy()) == expected
    assert cramped.scheduler.num_preemptions > 0
    cramped.scheduler.check_integrity()


def test_more_adapters_than_slots_equals_each_alone(
    tiny_qwen2: Path, tiny_config: EngineConfig, make_adapter: MakeAdapter
):
    from dataclasses import replace

    adapters = load(tiny_qwen2, *[make_adapter(tiny_qwen2, f"s{i}", seed=10 + i) for i in range(5)])
    engine = LLMEngine(tiny_qwen2, replace(tiny_config, max_adapters=2))
    mixed = engine.generate(prompts(10), greedy(8), [adapters[i % 5] for i in range(10)])
    alone = [engine.generate([p], greedy(8), adapters[i % 5])[0] for i, p in enumerate(prompts(10))]
    assert mixed == alone
    engine.scheduler.check_integrity()


def test_seeded_sampling_does_not_depend_on_the_batch(tiny_engine: LLMEngine):
    params = [SamplingParams(temperature=1.0, top_p=0.9, seed=i, max_tokens=12) for i in range(6)]
    together = tiny_engine.generate(prompts(6), params)
    alone = [tiny_engine.generate([p], one)[0] for p, one in zip(prompts(6), params, strict=True)]
    assert together == alone
    other_seeds = [SamplingParams(temperature=1.0, top_p=0.9, seed=100 + i, max_tokens=12) for i in range(6)]
    assert tiny_engine.generate(prompts(6), other_seeds) != together
