"""PEFT folders made without PEFT: in milliseconds, and damaged at will."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bench.adapters import write_random_adapter
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.engine.qwen_config import QwenConfig

Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Q_B = Q_A.replace("lora_A", "lora_B")


def write_adapter(
    folder: Path,
    base: QwenConfig,
    *,
    seed: int = 0,
    rank: int = 2,
    targets: tuple[str, ...] = ("q_proj", "down_proj"),
    scale: float = 0.3,
    manifest: dict[str, Any] | None = None,
) -> Path:
    """A folder with random factors on every layer, large enough to change what the tiny model says."""
    write_random_adapter(
        folder, base, rank=rank, seed=seed, targets=targets, scale=scale, dtype=torch.float32
    )
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def change_config(folder: Path, **changes: object) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS_FILE)


def write_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / WEIGHTS_FILE)


def write_header(folder: Path, header: bytes | dict[str, Any], data: bytes = b"") -> None:
    """A weights file with this header, whatever it says."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / WEIGHTS_FILE).write_bytes(len(content).to_bytes(8, "little") + content + data)
