"""PEFT adapters with random weights: their speed is that of trained ones, and there can be any number of them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from specialists.adapters.checkpoint import in_out_features
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.adapters.peft_config import TARGETS
from specialists.engine.qwen_config import QwenConfig


def write_random_adapter(
    folder: Path,
    base: QwenConfig,
    *,
    rank: int,
    seed: int,
    targets: Sequence[str] = TARGETS,
    scale: float = 0.002,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write an adapter on `targets` of every layer. At this `scale` it is small enough to leave the text sensible."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(base.num_layers):
        for target in targets:
            part = "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            prefix = f"base_model.model.model.layers.{layer}.{part}.{target}"
            in_features, out_features = in_out_features(base, target)
            for half, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
                values = torch.randn(shape, generator=generator) * scale
                tensors[f"{prefix}.lora_{half}.weight"] = values.to(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS_FILE)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets)}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    return folder
