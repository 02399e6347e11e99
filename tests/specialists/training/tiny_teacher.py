"""A random teacher, wider than the tiny student, with its tokenizer."""

import shutil
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM


def make_teacher(student: Path, folder: Path, *, hidden_size: int = 96, seed: int = 3) -> Path:
    """Save it as a download would be; greedy text varies, as its weights are large."""
    torch.manual_seed(seed)
    config = Qwen2Config.from_pretrained(student)
    config.hidden_size = hidden_size
    config.num_hidden_layers = 2
    config.layer_types = ["full_attention"] * 2
    model = Qwen2ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        if (student / name).exists():
            shutil.copyfile(student / name, folder / name)
    return folder
