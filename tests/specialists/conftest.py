"""Small engines and real PEFT adapters for the tiny models."""

from collections.abc import Callable
from pathlib import Path

import pytest

from specialists.adapters.registry import AdapterRegistry
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.qwen_config import read_qwen_config

ALL_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

MakeAdapter = Callable[..., Path]


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> MakeAdapter:
    """Makes PEFT adapters with random weights, large enough to change what the tiny model says."""

    def make(
        base: Path,
        name: str,
        *,
        rank: int = 4,
        seed: int = 0,
        targets: list[str] | None = None,
        std: float = 0.3,
        dtype: str = "float32",
        **lora: object,
    ) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
        config = LoraConfig(
            r=rank, target_modules=targets or ALL_TARGETS, lora_alpha=lora.pop("lora_alpha", 2 * rank), **lora
        )
        peft_model = get_peft_model(model, config, autocast_adapter_dtype=False)
        for parameter_name, parameter in peft_model.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=std)
        folder = tmp_path_factory.mktemp("adapters") / name
        peft_model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def tiny_config() -> EngineConfig:
    return EngineConfig(
        dtype="float32",
        max_num_seqs=8,
        block_size=4,
        num_blocks=256,
        max_num_batched_tokens=64,
        max_prefill_tokens_while_decoding=32,
        max_model_len=256,
        max_adapters=4,
    )


@pytest.fixture
def tiny_engine(tiny_qwen2: Path, tiny_config: EngineConfig) -> LLMEngine:
    return LLMEngine(tiny_qwen2, tiny_config)


@pytest.fixture
def tiny_registry(tiny_qwen2: Path) -> AdapterRegistry:
    import torch

    return AdapterRegistry(read_qwen_config(tiny_qwen2), dtype=torch.float32)
