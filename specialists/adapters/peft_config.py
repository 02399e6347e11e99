"""What `adapter_config.json` says, as far as the engine applies it; what it would ignore is refused. No torch here."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialists.adapters.errors import AdapterError, shown
from specialists.adapters.json_object import is_whole, parse_object
from specialists.engine.qwen_config import QwenConfig

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_MAX_ALPHA = 65536
# Fields that do not change what a trained adapter computes, whatever they say.
_WITHOUT_EFFECT = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "revision", "peft_version", "inference_mode"),
        *("lora_dropout", "eva_config", "megatron_core", "qalora_group_size", "runtime_config"),
    }
)
_READ = frozenset(
    {
        *("peft_type", "task_type", "r", "lora_alpha", "target_modules", "use_rslora", "bias"),
        *("layers_to_transform", "layers_pattern", "init_lora_weights"),
    }
)
# The other ways to begin change the base's weights too, and the adapter is made for the changed ones.
_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class LoraDeclaration:
    """What the file declares: rank, scaling, and the (layer, target) pairs that must have tensors."""

    rank: int
    scaling: float
    pairs: frozenset[tuple[int, str]]


def read_declaration(content: bytes, path: Path, base: QwenConfig, max_rank: int) -> LoraDeclaration:
    """Raises AdapterError naming the field."""
    try:
        config = parse_object(content)
    except ValueError as error:
        raise AdapterError(f"{path} is not a JSON object: {error}", code="config_invalid") from error
    _refuse_unsupported(path, config)
    targets = _targets_of(path, config.get("target_modules"))
    rank = _rank_of(path, config.get("r"), max_rank)
    alpha = _alpha_of(path, config.get("lora_alpha"))
    layers = _layers_of(path, config.get("layers_to_transform"), base.num_layers)
    scaling = scaling_of(alpha, rank, bool(config.get("use_rslora")))
    return LoraDeclaration(
        rank, scaling, frozenset((layer, target) for layer in layers for target in targets)
    )


def scaling_of(alpha: float, rank: int, use_rslora: bool) -> float:
    """What the product of B and A is multiplied by; of rsLoRA (arXiv:2312.03732) alpha by the root of the rank."""
    return alpha / (math.sqrt(rank) if use_rslora else rank)


def _refuse_unsupported(path: Path, config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise AdapterError(
            f"{path}: peft_type is {shown(config.get('peft_type'))}, expected 'LORA'",
            code="unsupported_feature",
        )
    for name, allowed in (
        ("task_type", (None, "CAUSAL_LM")),
        ("bias", (None, "none")),
        ("use_rslora", (None, False, True)),
        ("init_lora_weights", _BEGINNINGS),
        ("layers_pattern", (None, "", [], "layers", ["layers"])),
    ):
        if config.get(name) not in allowed:
            raise _unsupported(path, name, config[name])
    for name in sorted(config.keys() - _READ - _WITHOUT_EFFECT):
        # An unknown field that is set may be a feature of a newer PEFT: to ignore it would be to answer wrongly.
        if config[name]:
            raise _unsupported(path, name, config[name])


def _unsupported(path: Path, name: str, value: object) -> AdapterError:
    is_plain = name.isascii() and name.isidentifier() and len(name) < 100
    field = name if is_plain else shown(name)
    return AdapterError(f"{path}: {field} = {shown(value)} is not supported", code="unsupported_feature")


def _targets_of(path: Path, targets: object) -> list[str]:
    expected = f"a list out of {', '.join(TARGETS)}"
    if not isinstance(targets, list) or not targets:
        raise AdapterError(
            f"{path}: target_modules is {shown(targets)}, expected {expected}", code="target_unknown"
        )
    for target in targets:
        if target not in TARGETS:
            raise AdapterError(
                f"{path}: target_modules has {shown(target)}, expected {expected}", code="target_unknown"
            )
    return targets


def _rank_of(path: Path, rank: Any, max_rank: int) -> int:
    if not is_whole(rank) or rank < 1:
        raise AdapterError(
            f"{path}: r is {shown(rank)}, expected a whole number from 1 to {max_rank}", code="config_invalid"
        )
    if rank > max_rank:
        raise AdapterError(
            f"{path}: r is {shown(rank)}, at most {max_rank} is allowed", code="rank_too_large"
        )
    return int(rank)


def _alpha_of(path: Path, alpha: Any) -> float:
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= _MAX_ALPHA:
        raise AdapterError(
            f"{path}: lora_alpha is {shown(alpha)}, expected a number above 0 and up to {_MAX_ALPHA}",
            code="alpha_invalid",
        )
    return float(alpha)


def _layers_of(path: Path, wanted: Any, num_layers: int) -> list[int]:
    if wanted is None:
        return list(range(num_layers))
    layers = wanted if isinstance(wanted, list) else [wanted]
    if not layers or not all(map(is_whole, layers)):
        raise AdapterError(
            f"{path}: layers_to_transform is {shown(wanted)}, expected numbers of layers",
            code="config_invalid",
        )
    for layer in layers:
        if not 0 <= layer < num_layers:
            raise AdapterError(
                f"{path}: layers_to_transform names layer {shown(layer)}, the base has {num_layers} layers",
                code="base_mismatch",
            )
    return layers
