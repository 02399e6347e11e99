"""Is a folder a model that we can serve? Asked before anything is loaded, so the answer names the file."""

import json
import struct
from pathlib import Path
from typing import Any

from specialists.sources.errors import BaseModelError

BASE_MODEL_TYPES = ("qwen2", "qwen3")
ENCODER_MODEL_TYPES = ("bert",)
_INDEX_FILE = "model.safetensors.index.json"
_WEIGHTS_FILE = "model.safetensors"


def check_model_folder(folder: Path, model_types: tuple[str, ...]) -> None:
    """Raise BaseModelError naming the file that is missing, damaged, or of another architecture."""
    config = _read_json(folder / "config.json")
    model_type = config.get("model_type")
    if model_type not in model_types:
        raise BaseModelError(
            f"{folder / 'config.json'}: model_type is {model_type!r}, expected {' or '.join(model_types)}"
        )
    if "quantization_config" in config:
        raise BaseModelError(
            f"{folder / 'config.json'}: quantized checkpoints are not supported; use plain weights"
        )
    if not (folder / "tokenizer.json").is_file():
        raise BaseModelError(f"{folder / 'tokenizer.json'} is missing")
    for path in _weight_files(folder):
        check_safetensors(path)


def check_safetensors(path: Path) -> None:
    """Raise BaseModelError unless the file is as long as its header says, which a truncated copy is not."""
    try:
        with path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            if header_size > path.stat().st_size:
                raise ValueError("longer than the file")
            header = json.loads(file.read(header_size))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + header_size + max(ends, default=0)
    except FileNotFoundError:
        raise BaseModelError(f"{path} is missing") from None
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{path} is damaged: its header cannot be read") from error
    if path.stat().st_size != expected:
        raise BaseModelError(f"{path} is damaged: {path.stat().st_size} bytes, expected {expected}")


def _weight_files(folder: Path) -> list[Path]:
    index = folder / _INDEX_FILE
    if not index.is_file():
        return [folder / _WEIGHTS_FILE]
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BaseModelError(f"{index} has no weight_map")
    return [folder / name for name in sorted(set(weight_map.values()))]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BaseModelError(f"{path} is missing") from None
    except ValueError as error:
        raise BaseModelError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise BaseModelError(f"{path} is not a JSON object")
    return content
