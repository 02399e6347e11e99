"""`batch_invariant`: the same tokens, exactly, whoever shares the batch and however prompts are cut into chunks.

And the native kernels against torch's operations: the same model, within the rounding of bf16.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.native.build import BuildError
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from tests.specialists.conftest import MakeAdapter
from tests.specialists.engine.compiled import kernels_or_skip

NUM_NEW = 16
TOPICS = (
    "the sea",
    "a loop in Python",
    "12 apples and 7 pears",
    "la capital de Perú",
    "a tax on bonds",
    "rain in spring",
)


@pytest.fixture(params=["tiny_qwen2", "tiny_qwen3"])
def tiny_base(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture
def bf16(tiny_config: EngineConfig) -> EngineConfig:
    kernels_or_skip(with_products=True)
    return replace(tiny_config, dtype="bfloat16", kernels="native", batch_invariant=True)


def prompts(count: int) -> list[list[int]]:
    chooser = random.Random(4)
    return [[chooser.randrange(300) for _ in range(chooser.randrange(2, 60))] for _ in range(count)]


def load(base: Path, *folders: Path) -> list[LoadedAdapter | None]:
    registry = AdapterRegistry(read_qwen_config(base))
    return [None, *(registry.load(folder) for folder in folders)]


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_company_and_chunks_change_nothing(
    tiny_base: Path, bf16: EngineConfig, make_adapter: MakeAdapter, quantization: str
):
    config = replace(bf16, quantization=quantization)  # type: ignore[arg-type]
    adapters = load(
        tiny_base, make_adapter(tiny_base, "a", rank=3, seed=1), make_adapter(tiny_base, "b", seed=2)
    )
    params = SamplingParams(temperature=0, max_tokens=NUM_NEW, ignore_eos=True)
    chosen = [adapters[i % 3] for i in range(18)]
    together = LLMEngine(tiny_base, config).generate(prompts(18), params, chosen)
    chunked = LLMEngine(tiny_base, replace(config, max_num_batched_tokens=9, reuse_prefixes=False)).generate(
        prompts(18), params, chosen
    )
    engine = LLMEngine(tiny_base, config)
    alone = [engine.generate([p], params, a)[0] for p, a in zip(prompts(18), chosen, strict=True)]
    assert together == alone
    assert chunked == alone
    assert len({answer.token_ids for answer in alone}) > 9


def test_native_agrees_with_torch(tiny_base: Path, bf16: EngineConfig, make_adapter: MakeAdapter):
    """The first token's logits of both, relative to their spread; tokens of a random model are near ties too often."""
    (adapter,) = load(tiny_base, make_adapter(tiny_base, "c", rank=5, seed=3))[1:]
    logits = {
        kernels: _first_logits(replace(bf16, kernels=kernels, batch_invariant=False), tiny_base, adapter)  # type: ignore[arg-type]
        for kernels in ("native", "torch")
    }
    difference = (logits["native"] - logits["torch"]).abs().mean() / logits["torch"].std()
    assert difference < 0.02


def _first_logits(config: EngineConfig, base: Path, adapter: LoadedAdapter | None) -> torch.Tensor:
    engine = LLMEngine(base, config)
    found: list[torch.Tensor] = []
    forward = engine.runner.model.forward

    def record(*arguments: Any) -> torch.Tensor:
        found.append(forward(*arguments).float().clone())
        return found[-1]

    engine.runner.model.forward = record  # type: ignore[method-assign]
    engine.generate(prompts(8), SamplingParams(temperature=0, max_tokens=1), [adapter, None] * 4)
    return torch.cat(found)


@pytest.mark.parametrize(
    "change",
    [{"kernels": "torch"}, {"dtype": "float32", "kernels": "auto"}, {"quantization": "bnb-nf4"}],
    ids=["torch", "float32", "bitsandbytes"],
)
def test_it_is_refused_where_it_cannot_be_had(tiny_qwen2: Path, bf16: EngineConfig, change: dict[str, str]):
    with pytest.raises(BuildError, match="batch_invariant needs the native kernels"):
        LLMEngine(tiny_qwen2, replace(bf16, **change))  # type: ignore[arg-type]


def test_demanded_kernels_that_cannot_be_had_are_an_error(tiny_qwen2: Path, tiny_config: EngineConfig):
    with pytest.raises(BuildError, match="bfloat16 on a cpu; the engine runs float32"):
        LLMEngine(tiny_qwen2, replace(tiny_config, kernels="native"))


@pytest.mark.weights
@pytest.mark.parametrize(("quantization", "count", "num_new"), [("none", 200, 6), ("int8", 60, 12)])
def test_real_prompts_in_random_company(
    base_folder: Path, make_adapter: MakeAdapter, quantization: str, count: int, num_new: int
):
    kernels_or_skip(with_products=True)
    engine = LLMEngine(
        base_folder,
        EngineConfig(
            batch_invariant=True,
            quantization=quantization,  # type: ignore[arg-type]
            max_model_len=512,
            num_blocks=512,
            reuse_prefixes=False,
        ),
    )
    adapters = load(
        base_folder,
        *(
            make_adapter(base_folder, f"inv{seed}", seed=seed, std=0.02, dtype="bfloat16")
            for seed in (1, 2, 3)
        ),
    )
    chooser = random.Random(7)
    texts = [
        f"{number}. Tell me about {TOPICS[number % len(TOPICS)]}. " + "Be brief. " * chooser.randrange(8)
        for number in range(count)
    ]
    encoded = [engine.tokenizer.encode_chat([{"role": "user", "content": text}]) for text in texts]
    chosen = [adapters[chooser.randrange(4)] for _ in texts]
    params = SamplingParams(temperature=0, max_tokens=num_new, ignore_eos=True)
    alone = [engine.generate([p], params, a)[0] for p, a in zip(encoded, chosen, strict=True)]
    order = list(range(count))
    chooser.shuffle(order)
    mixed = engine.generate([encoded[i] for i in order], params, [chosen[i] for i in order])
    assert mixed == [alone[i] for i in order]
