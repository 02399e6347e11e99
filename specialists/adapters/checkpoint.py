"""A PEFT LoRA folder, read and checked whole: either every tensor has its place or the folder is refused.

Only what the engine applies is accepted; a feature it would ignore is an error that names it.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from specialists.adapters.errors import AdapterError
from specialists.engine.qwen_config import QwenConfig
from specialists.manifest import ManifestError, SpecialistManifest, read_manifest

__all__ = ["AdapterError", "Checkpoint", "LoraPair", "LoraWeights", "read_checkpoint"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_TENSOR_NAME = re.compile(
    r"^base_model\.model\.model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight$"
)
# Fields of LoraConfig that change what the adapter computes and that the engine does not apply.
_REFUSED_WHEN_SET = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "modules_to_save",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "corda_config",
    "megatron_config",
)


@dataclass(frozen=True, slots=True)
class LoraPair:
    """One target's factors: `a` [rank, in_features], `b` [out_features, rank]."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """All factors of one adapter by (layer, target); an absent target contributes nothing."""

    rank: int
    scaling: float
    pairs: dict[tuple[int, str], LoraPair]

    @property
    def num_bytes(self) -> int:
        return sum(
            tensor.numel() * tensor.element_size()
            for pair in self.pairs.values()
            for tensor in (pair.a, pair.b)
        )

    @property
    def targets(self) -> tuple[str, ...]:
        found = {target for _, target in self.pairs}
        return tuple(target for target in TARGETS if target in found)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder holds, with the identity of its content: the sha256 of the two files' sha256s."""

    weights: LoraWeights
    sha256: str


def read_folder_manifest(folder: Path) -> SpecialistManifest:
    """The manifest in `folder`, or the bare one of a folder that has none. Raises AdapterError."""
    try:
        return read_manifest(folder)
    except ManifestError as error:
        raise AdapterError(str(error), code="manifest_invalid") from error


def read_checkpoint(
    folder: Path, base: QwenConfig, max_rank: int, dtype: torch.dtype, max_file_bytes: int
) -> Checkpoint:
    """Read the adapter in `folder` for a base of this shape, converted to `dtype`.

    Raises AdapterError for anything missing, damaged, unsupported or not fitting the base.
    """
    if not folder.is_dir():
        raise AdapterError(f"{folder} is not a folder", code="config_invalid")
    config = _read_config(folder / CONFIG_FILE)
    rank = _rank_of(folder / CONFIG_FILE, config, max_rank)
    pairs = _read_pairs(folder / WEIGHTS_FILE, base, rank, dtype)
    _check_complete(folder, config, base, pairs)
    root = math.sqrt(rank) if config.get("use_rslora") else rank  # rsLoRA: arXiv:2312.03732
    weights = LoraWeights(rank=rank, scaling=config["lora_alpha"] / root, pairs=pairs)
    digests = [hashlib.sha256((folder / name).read_bytes()).digest() for name in (CONFIG_FILE, WEIGHTS_FILE)]
    return Checkpoint(weights, hashlib.sha256(b"".join(digests)).hexdigest())


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AdapterError(f"{path} is missing", code="config_invalid") from None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} is not readable JSON: {error}", code="config_invalid") from error
    if not isinstance(config, dict):
        raise AdapterError(
            f"{path} holds a {type(config).__name__}, expected an object", code="config_invalid"
        )
    if config.get("peft_type") != "LORA":
        raise AdapterError(
            f"{path}: peft_type is {config.get('peft_type')!r}, expected 'LORA'", code="config_invalid"
        )
    for name in _REFUSED_WHEN_SET:
        if config.get(name):
            raise AdapterError(f"{path}: {name} = {config[name]!r} is not supported", code="config_invalid")
    if config.get("bias", "none") != "none":
        raise AdapterError(
            f"{path}: bias = {config['bias']!r} is not supported, expected 'none'", code="config_invalid"
        )
    _check_targets(path, config.get("target_modules"))
    return config


def _check_targets(path: Path, targets: object) -> None:
    if not isinstance(targets, list) or not targets:
        raise AdapterError(
            f"{path}: target_modules is {targets!r}, expected a list out of {', '.join(TARGETS)}",
            code="config_invalid",
        )
    unknown = sorted(str(target) for target in targets if target not in TARGETS)
    if unknown:
        raise AdapterError(
            f"{path}: target_modules has {', '.join(unknown)}, expected only {', '.join(TARGETS)}",
            code="config_invalid",
        )


def _rank_of(path: Path, config: dict[str, Any], max_rank: int) -> int:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= max_rank:
        raise AdapterError(
            f"{path}: r is {rank!r}, expected a whole number from 1 to {max_rank}", code="config_invalid"
        )
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise AdapterError(
            f"{path}: lora_alpha is {alpha!r}, expected a finite number", code="config_invalid"
        )
    return rank


def _read_pairs(
    path: Path, base: QwenConfig, rank: int, dtype: torch.dtype
) -> dict[tuple[int, str], LoraPair]:
    halves: dict[tuple[int, str], dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                layer, target, half = _place_of(path, name, base)
                tensor = file.get_tensor(name)
                _check_tensor(path, name, tensor, _shape_of(base, target, half, rank))
                halves.setdefault((layer, target), {})[half] = tensor.to(dtype).contiguous()
    except FileNotFoundError:
        raise AdapterError(f"{path} is missing", code="config_invalid") from None
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path} is not a readable safetensors file: {error}", code="config_invalid"
        ) from error
    for (layer, target), found in halves.items():
        if len(found) != 2:
            raise AdapterError(
                f"{path}: layer {layer} {target} has only lora_{next(iter(found))}", code="config_invalid"
            )
    return {key: LoraPair(found["A"], found["B"]) for key, found in halves.items()}


def _place_of(path: Path, name: str, base: QwenConfig) -> tuple[int, str, str]:
    match = _TENSOR_NAME.match(name)
    if match is None or match[2] not in TARGETS:
        raise AdapterError(
            f"{path}: tensor {name} has no place in the base; expected names like "
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            code="config_invalid",
        )
    layer = int(match[1])
    if layer >= base.num_layers:
        raise AdapterError(
            f"{path}: tensor {name} is for layer {layer}, the base has {base.num_layers} layers",
            code="config_invalid",
        )
    return layer, match[2], match[3]


def in_out_features(base: QwenConfig, target: str) -> tuple[int, int]:
    """Input and output width of one target linear of the base."""
    hidden, inner = base.hidden_size, base.intermediate_size
    return {
        "q_proj": (hidden, base.query_size),
        "k_proj": (hidden, base.kv_size),
        "v_proj": (hidden, base.kv_size),
        "o_proj": (base.query_size, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }[target]


def _shape_of(base: QwenConfig, target: str, half: str, rank: int) -> tuple[int, int]:
    in_features, out_features = in_out_features(base, target)
    return (rank, in_features) if half == "A" else (out_features, rank)


def _check_tensor(path: Path, name: str, tensor: Tensor, expected: tuple[int, int]) -> None:
    if tuple(tensor.shape) != expected:
        raise AdapterError(
            f"{path}: tensor {name} has the shape {tuple(tensor.shape)}, expected {expected}",
            code="config_invalid",
        )
    if not tensor.is_floating_point():
        raise AdapterError(
            f"{path}: tensor {name} has the type {tensor.dtype}, expected a floating type",
            code="config_invalid",
        )
    if not torch.isfinite(tensor).all():
        raise AdapterError(f"{path}: tensor {name} has values that are not finite", code="config_invalid")


def _check_complete(
    folder: Path, config: dict[str, Any], base: QwenConfig, pairs: dict[tuple[int, str], LoraPair]
) -> None:
    """Every declared target has its tensors: a prefix that matched nothing must not pass as a silent base."""
    wanted = config.get("layers_to_transform")
    layers = range(base.num_layers) if wanted is None else [wanted] if isinstance(wanted, int) else wanted
    for layer in layers:
        for target in config["target_modules"]:
            if (layer, target) not in pairs:
                raise AdapterError(
                    f"{folder / WEIGHTS_FILE} has no tensors for layer {layer} {target}",
                    code="config_invalid",
                )
