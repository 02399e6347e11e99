"""PEFT adapters with random weights: their speed is that of trained ones, and there can be any number of them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from specialists.adapters.checkpoint import in_out_features
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.adapters.peft_config import TARGETS
from specialists.engine.qwen_config import QwenConfig


def write_random_adapter(folder: Path, base: QwenConfig, *, rank: int, seed: int) -> Path:
    """Write an adapter on all seven targets of every layer, small enough to leave the text sensible."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(base.num_layers):
        for target in TARGETS:
            part = "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            prefix = f"base_model.model.model.layers.{layer}.{part}.{target}"
            in_features, out_features = in_out_features(base, target)
            for half, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
                values = torch.randn(shape, generator=generator) * 0.002
                tensors[f"{prefix}.lora_{half}.weight"] = values.bfloat16()
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS_FILE)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(TARGETS)}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    return folder
