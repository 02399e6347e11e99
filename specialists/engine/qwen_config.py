"""The shape of a Qwen2 or Qwen3 checkpoint, read from its `config.json`. No torch here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = ("qwen2", "qwen3")


class UnsupportedModelError(ValueError):
    """A checkpoint this engine cannot run; the message names the file and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenConfig:
    """Sizes of the model. Qwen2 has biases on q, k and v; Qwen3 has norms on each head's q and k instead."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_position: int
    tie_word_embeddings: bool

    @property
    def has_qk_norm(self) -> bool:
        return self.architecture == "qwen3"

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


def read_qwen_config(folder: Path) -> QwenConfig:
    """Read `folder/config.json`. Raises UnsupportedModelError for anything this engine would run wrongly."""
    path = folder / "config.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{path} cannot be read: {error}") from error
    _refuse_unsupported(path, raw)
    try:
        rope = raw.get("rope_parameters") or {}
        return QwenConfig(
            architecture=raw["model_type"],
            vocab_size=raw["vocab_size"],
            hidden_size=raw["hidden_size"],
            intermediate_size=raw["intermediate_size"],
            num_layers=raw["num_hidden_layers"],
            num_heads=raw["num_attention_heads"],
            num_kv_heads=raw["num_key_value_heads"],
            head_dim=raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"],
            rms_norm_eps=raw["rms_norm_eps"],
            rope_theta=rope.get("rope_theta") or raw["rope_theta"],
            max_position=raw["max_position_embeddings"],
            tie_word_embeddings=raw.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise UnsupportedModelError(f"{path} lacks the field {error}") from error


def _refuse_unsupported(path: Path, raw: dict[str, Any]) -> None:
    if raw.get("model_type") not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{path}: model_type is {raw.get('model_type')!r}, expected one of {', '.join(ARCHITECTURES)}"
        )
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if rope_type != "default":
        raise UnsupportedModelError(f"{path}: rope type {rope_type!r} is not supported, expected 'default'")
    if raw.get("use_sliding_window"):
        raise UnsupportedModelError(f"{path}: use_sliding_window is not supported")
    if raw.get("hidden_act", "silu") != "silu":
        raise UnsupportedModelError(
            f"{path}: hidden_act {raw['hidden_act']!r} is not supported, expected 'silu'"
        )
