"""A malformed trained part is refused, with the file's name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from router import weights_file
from router.delegator import Delegator
from router.errors import DelegatorError


@pytest.fixture
def weights(tmp_path: Path, tiny_weights: Path) -> Path:
    return Path(shutil.copytree(tiny_weights, tmp_path / "weights"))


def _edit(weights: Path, **changes: Any) -> None:
    path = weights / weights_file.METADATA
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))


def test_what_is_saved_is_loaded(tmp_path: Path, tiny_encoder: Path, tiny_weights: Path):
    metadata, tensors = weights_file.load(tiny_weights, tiny_encoder)
    weights_file.save(tmp_path, metadata, tensors)
    again, same = weights_file.load(tmp_path, tiny_encoder)
    assert again == metadata
    assert all(torch.equal(tensors[name], same[name]) for name in tensors | same)


@pytest.mark.parametrize("name", [weights_file.METADATA, weights_file.TENSORS])
def test_a_missing_file_is_named(weights: Path, tiny_encoder: Path, name: str):
    (weights / name).unlink()
    with pytest.raises(DelegatorError, match=name):
        weights_file.load(weights, tiny_encoder)


@pytest.mark.parametrize("name", [weights_file.METADATA, weights_file.TENSORS])
def test_a_damaged_file_is_named(weights: Path, tiny_encoder: Path, name: str):
    (weights / name).write_bytes(b"\xff\x00 damaged")
    with pytest.raises(DelegatorError, match=name):
        weights_file.load(weights, tiny_encoder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("intents", "absent"),
        ("intents", []),
        ("intents", ["math", "math"]),
        ("intents", "math"),
        ("temperature", 0),
        ("temperature", "warm"),
        ("temperature", True),
        ("policy", "absent"),
        ("max_tokens", 3.5),
        ("encoder_sha256", 5),
        ("measured", None),
    ],
)
def test_a_bad_field_is_named(weights: Path, tiny_encoder: Path, key: str, value: Any):
    _edit(weights, **{key: value})
    with pytest.raises(DelegatorError, match=rf"router\.json.*'{key}'"):
        weights_file.load(weights, tiny_encoder)


@pytest.mark.parametrize(
    "policy", [{"threshold": 1.2}, {"treshold": 0.5}, {}, {"threshold": 0.5, "margin": -1}]
)
def test_a_bad_policy_is_named(weights: Path, tiny_encoder: Path, policy: dict[str, Any]):
    _edit(weights, policy=policy)
    with pytest.raises(DelegatorError, match=r"router\.json.*(policy|threshold|margin)"):
        weights_file.load(weights, tiny_encoder)


def test_a_head_for_other_intents_is_refused(weights: Path, tiny_encoder: Path):
    _edit(weights, intents=["math", "general"])
    with pytest.raises(DelegatorError, match=r"router\.safetensors"):
        weights_file.load(weights, tiny_encoder)


@pytest.mark.parametrize("change", ["no_head", "narrow_head", "unknown_delta", "misfit", "half_a_delta"])
def test_tensors_that_do_not_fit_are_refused(weights: Path, tiny_encoder: Path, change: str):
    path = weights / weights_file.TENSORS
    tensors = load_file(path)
    name = next(key for key in tensors if key.endswith("query.lora_a"))
    if change == "no_head":
        del tensors["head.bias"]
    elif change == "narrow_head":
        tensors["head.weight"] = tensors["head.weight"][:, :4].contiguous()
    elif change == "unknown_delta":
        tensors["pooler.lora_a"] = tensors[name].clone()
    elif change == "misfit":
        tensors[name] = tensors[name][:, :4].contiguous()
    else:
        del tensors[name.replace("lora_a", "lora_b")]
    save_file(tensors, path)
    with pytest.raises(DelegatorError, match=r"router\.safetensors|delta"):
        Delegator.from_folder(tiny_encoder, weights)


def test_an_encoder_without_weights_is_named(weights: Path, tmp_path: Path):
    with pytest.raises(DelegatorError, match=r"model\.safetensors"):
        weights_file.load(weights, tmp_path)
