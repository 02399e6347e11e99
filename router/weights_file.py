"""The trained part on disk: `router.json` (what it is) and `router.safetensors` (deltas and head).

It belongs to one encoder, named by the sha256 of its `model.safetensors`; any other is refused.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from router.errors import DelegatorError
from router.policy import Policy
from router.tokenizing import read_json_object

METADATA = "router.json"
TENSORS = "router.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterMetadata:
    """What a trained part declares about itself. `measured` holds its held-out numbers."""

    intents: tuple[str, ...]
    temperature: float
    policy: Policy
    max_tokens: int
    seed: int
    encoder_sha256: str
    measured: dict[str, Any] = field(default_factory=dict)


def sha256_of(path: Path) -> str:
    """Hex digest of a file. Raises DelegatorError naming it when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DelegatorError(f"cannot read {path}: {error.strerror}") from error


def save(folder: Path, metadata: RouterMetadata, tensors: dict[str, torch.Tensor]) -> None:
    """Writes both files, the metadata last."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS)
    text = json.dumps(asdict(metadata), indent=2, ensure_ascii=False)
    (folder / METADATA).write_text(text + "\n", encoding="utf-8")


def load(folder: Path, encoder: Path) -> tuple[RouterMetadata, dict[str, torch.Tensor]]:
    """Reads both files and checks that they were trained for the encoder in the folder `encoder`.

    Raises DelegatorError naming the file when one is missing, malformed, or made for another encoder.
    """
    metadata = _metadata(folder / METADATA)
    actual = sha256_of(encoder / "model.safetensors")
    if actual != metadata.encoder_sha256:
        raise DelegatorError(
            f"{folder / METADATA} was trained for the encoder with sha256 {metadata.encoder_sha256[:16]}..., "
            f"but {encoder / 'model.safetensors'} has {actual[:16]}...; "
            "use that encoder, or train the router for this one"
        )
    path = folder / TENSORS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DelegatorError(f"cannot read {path}: {error}") from error
    if "head.weight" not in tensors or "head.bias" not in tensors:
        raise DelegatorError(f"{path} has no head.weight and head.bias")
    if tensors["head.weight"].shape[0] != len(metadata.intents):
        raise DelegatorError(
            f"{path} has a head for {tensors['head.weight'].shape[0]} intents, not {metadata.intents}"
        )
    return metadata, tensors


def _metadata(path: Path) -> RouterMetadata:
    content = read_json_object(path)
    try:
        metadata = RouterMetadata(
            intents=tuple(_expect(content, "intents", list)),
            temperature=float(_expect(content, "temperature", (int, float))),
            policy=_policy(_expect(content, "policy", dict)),
            max_tokens=_expect(content, "max_tokens", int),
            seed=_expect(content, "seed", int),
            encoder_sha256=_expect(content, "encoder_sha256", str),
            measured=_expect(content, "measured", dict),
        )
    except ValueError as error:
        raise DelegatorError(f"{path}: {error}") from error
    if not metadata.intents or len(set(metadata.intents)) != len(metadata.intents):
        raise DelegatorError(f"{path}: 'intents' is empty or names one twice")
    if not metadata.temperature > 0:
        raise DelegatorError(f"{path}: 'temperature' is {metadata.temperature}; it must be above 0")
    return metadata


def _policy(content: dict[str, Any]) -> Policy:
    try:
        return Policy(**content)
    except TypeError as error:
        raise ValueError(f"'policy' is not one: {error}") from error


def _expect(content: dict[str, object], key: str, kind: type | tuple[type, ...]) -> Any:
    if key not in content:
        raise ValueError(f"{key!r} is missing")
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key!r} is {value!r}, not of the expected type")
    return value
