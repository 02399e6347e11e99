"""A PEFT LoRA folder, read and checked whole: either every tensor has its place or the folder is refused.

Everything that can be known without the values is checked before any of them is read. They are read, not mapped: a
file that is cut short meanwhile is an error then, not the end of the process, and what was hashed is what was checked.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from specialists.adapters.errors import AdapterError, shown
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE, AdapterFolder
from specialists.adapters.limits import DEFAULT_MAX_FILE_BYTES
from specialists.adapters.peft_config import TARGETS, LoraDeclaration, read_declaration
from specialists.adapters.safetensors_header import TensorEntry, read_header
from specialists.engine.qwen_config import QwenConfig
from specialists.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    ManifestError,
    SpecialistManifest,
    parse_manifest,
)

_MAX_CONFIG_BYTES = 1024 * 1024

_TENSOR_NAME = re.compile(
    r"base_model\.model\.model\.layers\.(0|[1-9][0-9]{0,3})\.(self_attn|mlp)\.([a-z_]+)\.lora_([AB])\.weight"
)
_BLOCKS = {target: "self_attn" if target in TARGETS[:4] else "mlp" for target in TARGETS}
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


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
    """What a folder holds, with the identity of its content: the sha256 of its two files' sha256s, in hexadecimal."""

    weights: LoraWeights
    sha256: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor of the file belongs."""

    layer: int
    target: str
    half: str  # A or B


def read_folder_manifest(folder: Path, name: str | None = None) -> SpecialistManifest:
    """The manifest in `folder`, or the bare one of a folder that has none, under `name` if given. Raises AdapterError."""
    path = folder / MANIFEST_FILE
    with AdapterFolder(folder) as files:
        try:
            content = files.read(MANIFEST_FILE, MAX_MANIFEST_BYTES)
        except AdapterError as error:
            if error.code != "file_missing":
                raise
            content = None
    try:
        if content is None and name is not None:
            return SpecialistManifest(name=name)
        return parse_manifest(path, content)
    except ManifestError as error:
        raise AdapterError(
            str(error), code="name_invalid" if "name" in error.fields else "manifest_invalid"
        ) from error


def read_checkpoint(
    folder: Path,
    base: QwenConfig,
    max_rank: int,
    dtype: torch.dtype,
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
) -> Checkpoint:
    """Read the adapter in `folder` for a base of this shape, converted to `dtype`.

    Raises AdapterError for anything missing, damaged, unsupported or not fitting the base.
    """
    with AdapterFolder(folder) as files:
        config = files.read(CONFIG_FILE, _MAX_CONFIG_BYTES)
        declared = read_declaration(config, folder / CONFIG_FILE, base, max_rank)
        digest = hashlib.sha256()
        with files.open(WEIGHTS_FILE, max_file_bytes) as file:
            try:
                pairs = _read_pairs(file, folder / WEIGHTS_FILE, base, declared, dtype, digest)
            except OSError as error:
                raise AdapterError(
                    f"{folder / WEIGHTS_FILE} cannot be read: {error.strerror}", code="unreadable"
                ) from error
    identity = hashlib.sha256(hashlib.sha256(config).digest() + digest.digest())
    return Checkpoint(LoraWeights(declared.rank, declared.scaling, pairs), identity.hexdigest())


def _read_pairs(
    file: BinaryIO,
    path: Path,
    base: QwenConfig,
    declared: LoraDeclaration,
    dtype: torch.dtype,
    digest: "hashlib._Hash",
) -> dict[tuple[int, str], LoraPair]:
    entries = read_header(file, path, os.fstat(file.fileno()).st_size, digest)
    places = [_place_of(path, entry, base, declared) for entry in entries]
    _check_complete(path, places, declared)
    halves: dict[tuple[int, str], dict[str, Tensor]] = {}
    has_effect: dict[tuple[int, str], bool] = {}
    for place, entry in zip(places, entries, strict=True):
        key = (place.layer, place.target)
        tensor, largest = _read_tensor(file, path, entry, dtype, digest)
        halves.setdefault(key, {})[place.half] = tensor
        has_effect[key] = has_effect.get(key, True) and largest > 0
    if not any(has_effect.values()):
        raise AdapterError(
            f"{path}: the product of A and B is zero everywhere, expected a trained adapter", code="no_effect"
        )
    return {key: LoraPair(found["A"], found["B"]) for key, found in halves.items()}


def _place_of(path: Path, entry: TensorEntry, base: QwenConfig, declared: LoraDeclaration) -> _Place:
    """Where the tensor belongs, of which only the header is known. Raises AdapterError when it does not fit there."""
    match = _TENSOR_NAME.fullmatch(entry.name)
    if match is None or _BLOCKS.get(match[3]) != match[2]:
        raise AdapterError(
            f"{path}: tensor {shown(entry.name)} has no place in the base; expected names like "
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            code="tensor_unknown",
        )
    place = _Place(int(match[1]), match[3], match[4])
    if place.layer >= base.num_layers:
        raise AdapterError(
            f"{path}: tensor {entry.name} is for layer {place.layer}, the base has {base.num_layers} layers",
            code="base_mismatch",
        )
    if (place.layer, place.target) not in declared.pairs:
        raise AdapterError(
            f"{path}: tensor {entry.name} belongs to nothing that {CONFIG_FILE} declares",
            code="tensor_unknown",
        )
    expected = _shape_of(base, place, declared.rank)
    if entry.shape != expected:
        raise AdapterError(
            f"{path}: tensor {entry.name} has the shape {shown(entry.shape)}, expected {expected}",
            code="shape_mismatch",
        )
    if entry.dtype not in _DTYPES:
        raise AdapterError(
            f"{path}: tensor {entry.name} has the type {entry.dtype}, expected one of {', '.join(_DTYPES)}",
            code="dtype_unsupported",
        )
    return place


def _check_complete(path: Path, places: list[_Place], declared: LoraDeclaration) -> None:
    """Every declared target has its tensors: a prefix that matched nothing must not pass as a silent base."""
    found = set(places)
    for layer, target in sorted(declared.pairs):
        for half in "AB":
            if _Place(layer, target, half) not in found:
                raise AdapterError(
                    f"{path} has no lora_{half} for layer {layer} {target}, which {CONFIG_FILE} declares",
                    code="tensor_missing",
                )


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


def _shape_of(base: QwenConfig, place: _Place, rank: int) -> tuple[int, int]:
    in_features, out_features = in_out_features(base, place.target)
    return (rank, in_features) if place.half == "A" else (out_features, rank)


def _read_tensor(
    file: BinaryIO, path: Path, entry: TensorEntry, dtype: torch.dtype, digest: "hashlib._Hash"
) -> tuple[Tensor, float]:
    """The next tensor of the file, converted, and its largest magnitude."""
    content = torch.empty(entry.end - entry.start, dtype=torch.uint8)
    view = content.numpy().data
    if file.readinto(view) != len(view):  # type: ignore[attr-defined]
        raise AdapterError(f"{path} was cut short while it was read", code="header_invalid")
    digest.update(view)
    tensor = content.view(_DTYPES[entry.dtype]).view(entry.shape).to(dtype)
    lowest, highest = (float(value) for value in tensor.aminmax())
    largest = max(abs(lowest), abs(highest))
    if not largest < float("inf"):  # nor when it is NaN
        raise AdapterError(f"{path}: tensor {entry.name} has values that are not finite", code="non_finite")
    return tensor, largest
