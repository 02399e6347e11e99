"""An adapter folder is taken whole or refused with the file and the field."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from specialists.adapters.checkpoint import LoraWeights, read_checkpoint
from specialists.adapters.errors import AdapterError
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.adapters.peft_config import TARGETS
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from tests.specialists.conftest import MakeAdapter


@pytest.fixture(scope="module")
def base(tiny_qwen2: Path) -> QwenConfig:
    return read_qwen_config(tiny_qwen2)


@pytest.fixture(scope="module")
def original(tiny_qwen2: Path, make_adapter: MakeAdapter) -> Path:
    return make_adapter(tiny_qwen2, "good", rank=4)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of a good adapter, to be damaged."""
    return copytree(original, tmp_path / "adapter")


def read(folder: Path, base: QwenConfig, max_rank: int = 64) -> LoraWeights:
    return read_checkpoint(folder, base, max_rank, torch.float32, 2**30).weights


def change_config(folder: Path, **changes: object) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)


def test_reads_every_target_of_every_layer(folder: Path, base: QwenConfig):
    weights = read(folder, base)
    assert weights.rank == 4
    assert weights.scaling == 2.0
    assert weights.targets == TARGETS
    assert len(weights.pairs) == base.num_layers * len(TARGETS)
    saved = load_file(folder / WEIGHTS_FILE)
    assert weights.num_bytes == sum(tensor.numel() * 4 for tensor in saved.values())


def test_rslora_scales_by_the_root_of_the_rank(folder: Path, base: QwenConfig):
    change_config(folder, use_rslora=True, lora_alpha=6)
    assert read(folder, base).scaling == 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\] is not supported"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ({"bias": "all"}, "bias = 'all' is not supported, expected 'none'"),
        ({"lora_bias": True}, "lora_bias"),
        ({"target_modules": ["q_proj", "lm_head"]}, "target_modules has lm_head"),
        ({"target_modules": "all-linear"}, "target_modules is 'all-linear', expected a list"),
        ({"r": 65}, "r is 65, expected a whole number from 1 to 64"),
        ({"r": 0}, "r is 0"),
        ({"r": "4"}, "r is '4'"),
        ({"lora_alpha": None}, "lora_alpha is None, expected a finite number"),
    ],
)
def test_refuses_by_name_what_it_would_not_apply(
    folder: Path, base: QwenConfig, changes: dict[str, object], message: str
):
    change_config(folder, **changes)
    with pytest.raises(AdapterError, match=message) as refusal:
        read(folder, base)
    assert str(folder / CONFIG_FILE) in str(refusal.value)


def test_refuses_a_missing_folder(tmp_path: Path, base: QwenConfig):
    with pytest.raises(AdapterError, match="nowhere is not a folder"):
        read(tmp_path / "nowhere", base)


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE])
def test_refuses_a_missing_file(folder: Path, base: QwenConfig, file: str):
    (folder / file).unlink()
    with pytest.raises(AdapterError, match=f"{file} is missing"):
        read(folder, base)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe"])
def test_refuses_a_damaged_config(folder: Path, base: QwenConfig, content: bytes):
    (folder / CONFIG_FILE).write_bytes(content)
    with pytest.raises(AdapterError, match=CONFIG_FILE):
        read(folder, base)


@pytest.mark.parametrize("length", [0, 5, 100, -10])
def test_refuses_truncated_weights(folder: Path, base: QwenConfig, length: int):
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(AdapterError, match=WEIGHTS_FILE):
        read(folder, base)


def test_pickle_is_not_read(folder: Path, base: QwenConfig):
    (folder / WEIGHTS_FILE).unlink()
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=f"{WEIGHTS_FILE} is missing"):
        read(folder, base)


Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(Q_A), "layer 0 q_proj has only lora_B"),
        (lambda tensors: tensors.update({"model.layers.0.x": torch.zeros(1)}), "has no place in the base"),
        (
            lambda tensors: tensors.update({Q_A.replace("layers.0", "layers.99"): tensors[Q_A].clone()}),
            "for layer 99",
        ),
        (lambda tensors: tensors.update({Q_A: torch.zeros(4, 3)}), r"shape \(4, 3\), expected \(4, 64\)"),
        (lambda tensors: tensors[Q_A].fill_(float("nan")), "not finite"),
        (lambda tensors: tensors.update({Q_A: torch.zeros(4, 64, dtype=torch.int8)}), "type torch.int8"),
    ],
    ids=["half", "unknown-name", "layer", "shape", "nan", "type"],
)
def test_refuses_tensors_that_do_not_fit(
    folder: Path, base: QwenConfig, change: Callable[[dict[str, torch.Tensor]], None], message: str
):
    change_tensors(folder, change)
    with pytest.raises(AdapterError, match=message):
        read(folder, base)


def test_refuses_a_prefix_that_matches_nothing(folder: Path, base: QwenConfig):
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("base_model.model.")] = tensors.pop(name)

    change_tensors(folder, rename)
    with pytest.raises(AdapterError, match="has no place in the base"):
        read(folder, base)


def test_refuses_declared_targets_without_tensors(folder: Path, base: QwenConfig):
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "layers.1.mlp.up_proj" in name]:
            del tensors[name]

    change_tensors(folder, drop)
    with pytest.raises(AdapterError, match="no tensors for layer 1 up_proj"):
        read(folder, base)
