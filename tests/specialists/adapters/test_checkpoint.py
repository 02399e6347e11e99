"""An adapter folder is taken whole or refused with a code, the file and the field."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import save_file

import specialists
from specialists.adapters.checkpoint import Checkpoint, read_checkpoint, read_folder_manifest
from specialists.adapters.errors import AdapterError, ErrorCode
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.adapters.peft_config import TARGETS
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.sources.artifacts import DEFAULT_BASE
from tests.specialists.adapters.tiny import (
    Q_A,
    Q_B,
    change_config,
    read_tensors,
    write_adapter,
    write_tensors,
)
from tests.specialists.conftest import MakeAdapter

CATALOG = Path(specialists.__file__).parent / "catalog"
# Of the default base, Qwen2.5-Coder-0.5B-Instruct.
DEFAULT_SHAPE = QwenConfig(
    architecture="qwen2",
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_layers=24,
    num_heads=14,
    num_kv_heads=2,
    head_dim=64,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    max_position=32768,
    tie_word_embeddings=False,
)
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base(tiny_qwen2: Path) -> QwenConfig:
    return read_qwen_config(tiny_qwen2)


@pytest.fixture(scope="module")
def original(base: QwenConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "good", base, rank=4, targets=TARGETS)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of a good adapter, to be damaged."""
    return copytree(original, tmp_path / "adapter")


def read(
    folder: Path, base: QwenConfig, dtype: torch.dtype = torch.float32, max_file_bytes: int = 2**20
) -> Checkpoint:
    return read_checkpoint(folder, base, 64, dtype, max_file_bytes)


def assert_refused(folder: Path, base: QwenConfig, code: ErrorCode, message: str = "") -> None:
    with pytest.raises(AdapterError, match=message) as refusal:
        read(folder, base)
    assert refusal.value.code == code
    assert str(folder) in str(refusal.value)


def test_reads_every_target_of_every_layer(folder: Path, base: QwenConfig):
    weights = read(folder, base).weights
    assert (weights.rank, weights.scaling) == (4, 2.0)
    assert weights.targets == TARGETS
    assert len(weights.pairs) == base.num_layers * len(TARGETS)
    saved = read_tensors(folder)
    assert weights.num_bytes == sum(tensor.numel() * 4 for tensor in saved.values())
    assert torch.equal(weights.pairs[0, "q_proj"].a, saved[Q_A])
    assert torch.equal(weights.pairs[0, "q_proj"].b, saved[Q_B])


def test_reads_what_peft_writes(tiny_qwen2: Path, base: QwenConfig, make_adapter: MakeAdapter):
    folder = make_adapter(tiny_qwen2, "peft", rank=3, targets=["v_proj"], layers_to_transform=[0, 2])
    weights = read(folder, base).weights
    assert sorted(weights.pairs) == [(0, "v_proj"), (2, "v_proj")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_reads_types_of_odd_sizes_side_by_side(folder: Path, base: QwenConfig, dtype: torch.dtype):
    tensors = {
        name: tensor.to(torch.float16 if index % 2 else torch.float32)
        for index, (name, tensor) in enumerate(read_tensors(folder).items())
    }
    write_tensors(folder, tensors)
    weights = read(folder, base, dtype).weights
    assert torch.equal(weights.pairs[0, "q_proj"].a, tensors[Q_A].to(dtype))


def test_its_identity_is_that_of_both_files(folder: Path, base: QwenConfig):
    digests = [hashlib.sha256((folder / name).read_bytes()).digest() for name in (CONFIG_FILE, WEIGHTS_FILE)]
    before = read(folder, base).sha256
    assert before == hashlib.sha256(b"".join(digests)).hexdigest()
    (folder / "README.md").write_text("not part of it")
    assert read(folder, base).sha256 == before
    change_config(folder, lora_alpha=5)
    assert read(folder, base).sha256 != before


def test_rslora_scales_by_the_root_of_the_rank(folder: Path, base: QwenConfig):
    change_config(folder, use_rslora=True, lora_alpha=6)
    assert read(folder, base).weights.scaling == 3.0


@pytest.mark.parametrize(
    ("code", "changes", "message"),
    [
        ("unsupported_feature", {"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ("unsupported_feature", {"use_dora": True}, "use_dora = True is not supported"),
        ("unsupported_feature", {"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\]"),
        ("unsupported_feature", {"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ("unsupported_feature", {"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ("unsupported_feature", {"bias": "all"}, "bias = 'all' is not supported"),
        ("unsupported_feature", {"lora_bias": True}, "lora_bias"),
        ("unsupported_feature", {"task_type": "SEQ_CLS"}, "task_type = 'SEQ_CLS'"),
        ("unsupported_feature", {"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ("unsupported_feature", {"layers_pattern": "h"}, "layers_pattern"),
        ("unsupported_feature", {"a_feature_of_tomorrow": {"x": 1}}, "a_feature_of_tomorrow"),
        ("target_unknown", {"target_modules": ["q_proj", "lm_head"]}, "target_modules has 'lm_head'"),
        ("target_unknown", {"target_modules": ["q_proj", ["v_proj"]]}, r"target_modules has \['v_proj'\]"),
        ("target_unknown", {"target_modules": "all-linear"}, "target_modules is 'all-linear', expected a"),
        ("rank_too_large", {"r": 65}, "r is 65, at most 64 is allowed"),
        ("config_invalid", {"r": 0}, "r is 0, expected a whole number from 1 to 64"),
        ("config_invalid", {"r": "4"}, "r is '4'"),
        ("config_invalid", {"r": True}, "r is True"),
        ("alpha_invalid", {"lora_alpha": None}, "lora_alpha is None, expected a number above 0"),
        ("alpha_invalid", {"lora_alpha": 0}, "lora_alpha is 0"),
        ("alpha_invalid", {"lora_alpha": -8}, "lora_alpha is -8"),
        ("alpha_invalid", {"lora_alpha": 10**400}, "lora_alpha is 1000"),
        ("config_invalid", {"layers_to_transform": "all"}, "layers_to_transform is 'all'"),
        ("config_invalid", {"layers_to_transform": [[0]]}, r"layers_to_transform is \[\[0\]\]"),
        ("base_mismatch", {"layers_to_transform": [0, 3]}, "layer 3, the base has 3 layers"),
    ],
)
def test_refuses_by_name_what_it_would_not_apply(
    folder: Path, base: QwenConfig, code: ErrorCode, changes: dict[str, object], message: str
):
    change_config(folder, **changes)
    assert_refused(folder, base, code, f"{CONFIG_FILE}: .*{message}")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"r": NaN}', b'{"r": 1, "r": 2}'),
        b'{"r": ' + b"9" * 5000 + b"}",
    ],
)
def test_refuses_a_damaged_config(folder: Path, base: QwenConfig, content: bytes):
    (folder / CONFIG_FILE).write_bytes(content)
    assert_refused(folder, base, "config_invalid", CONFIG_FILE)


def _rename(tensors: Tensors, old: str, new: str) -> None:
    for name in [name for name in tensors if old in name]:
        tensors[name.replace(old, new)] = tensors.pop(name)


def _drop(tensors: Tensors, part: str) -> None:
    for name in [name for name in tensors if part in name]:
        del tensors[name]


@pytest.mark.parametrize(
    ("code", "change", "message"),
    [
        ("tensor_missing", lambda t: t.pop(Q_A), "no lora_A for layer 0 q_proj"),
        ("tensor_missing", lambda t: _drop(t, "layers.1.mlp.up_proj"), "no lora_A for layer 1 up_proj"),
        ("tensor_missing", lambda t: t.clear(), "no lora_A for layer 0"),
        ("tensor_unknown", lambda t: t.update({"model.layers.0.x": torch.ones(1)}), "has no place"),
        ("tensor_unknown", lambda t: _rename(t, "base_model.model.", ""), "has no place in the base"),
        ("tensor_unknown", lambda t: _rename(t, "layers.0", "layers.00"), "has no place"),
        ("tensor_unknown", lambda t: _rename(t, "0.self_attn", "0.mlp"), "has no place"),
        ("tensor_unknown", lambda t: _rename(t, "layers.0", "layers." + "9" * 5000), "has no place"),
        ("tensor_unknown", lambda t: t.update({Q_A + "\n": torch.ones(4, 64)}), "has no place"),
        ("tensor_unknown", lambda t: t.update({Q_A + "\u2028😀": torch.ones(1)}), "has no place"),
        ("base_mismatch", lambda t: _rename(t, "layers.0", "layers.99"), "layer 99, the base has 3 layers"),
        ("shape_mismatch", lambda t: t.update({Q_A: torch.ones(4, 3)}), r"\(4, 3\), expected \(4, 64\)"),
        ("shape_mismatch", lambda t: t.update({Q_A: torch.ones(256)}), r"\(256,\), expected \(4, 64\)"),
        ("dtype_unsupported", lambda t: t.update({Q_A: torch.ones(4, 64, dtype=torch.int8)}), "type I8"),
        ("dtype_unsupported", lambda t: t.update({Q_A: torch.ones(4, 64).double()}), "type F64"),
        ("non_finite", lambda t: t[Q_A].fill_(float("nan")), "not finite"),
        ("non_finite", lambda t: t[Q_B][3, 1].fill_(float("-inf")), "not finite"),
        ("no_effect", lambda t: [t[name].zero_() for name in t if "lora_B" in name], "zero everywhere"),
        ("no_effect", lambda t: [t[name].zero_() for name in t if "lora_A" in name], "zero everywhere"),
    ],
)
def test_refuses_tensors_that_do_not_fit(
    folder: Path, base: QwenConfig, code: ErrorCode, change: Callable[[Tensors], object], message: str
):
    tensors = read_tensors(folder)
    change(tensors)
    write_tensors(folder, tensors)
    assert_refused(folder, base, code, message)


def test_refuses_tensors_of_a_target_that_is_not_declared(folder: Path, base: QwenConfig):
    change_config(folder, target_modules=["q_proj", "k_proj"])
    assert_refused(folder, base, "tensor_unknown", "belongs to nothing that adapter_config.json declares")


def test_one_factor_of_zeros_beside_others_is_fine(folder: Path, base: QwenConfig):
    tensors = read_tensors(folder)
    tensors[Q_B].zero_()
    write_tensors(folder, tensors)
    assert read(folder, base).weights.rank == 4


def test_refuses_what_is_finite_in_the_file_only(folder: Path, base: QwenConfig):
    tensors = read_tensors(folder)
    tensors[Q_A][0, 0] = 1e30
    write_tensors(folder, tensors)
    assert read(folder, base).weights.rank == 4
    with pytest.raises(AdapterError, match="not finite") as refusal:
        read(folder, base, torch.float16)
    assert refusal.value.code == "non_finite"


def test_refuses_a_file_that_is_too_large_before_reading_it(folder: Path, base: QwenConfig):
    size = (folder / WEIGHTS_FILE).stat().st_size
    with pytest.raises(AdapterError, match=f"has {size} bytes, at most {size - 1} are allowed") as refusal:
        read(folder, base, max_file_bytes=size - 1)
    assert refusal.value.code == "too_large"
    (folder / CONFIG_FILE).write_bytes(b" " * (2**20 + 1))
    assert_refused(folder, base, "too_large", CONFIG_FILE)


def test_refuses_an_adapter_of_another_base(tmp_path: Path, tiny_qwen3: Path, base: QwenConfig):
    """The same hidden size and layers; only the heads differ."""
    other = write_adapter(tmp_path / "other", read_qwen_config(tiny_qwen3))
    assert_refused(other, base, "shape_mismatch", "q_proj.lora_B")


def test_a_file_cut_short_while_it_is_read_is_refused(
    folder: Path, base: QwenConfig, monkeypatch: pytest.MonkeyPatch
):
    """Were it mapped into memory, this would end the process."""
    path = folder / WEIGHTS_FILE
    read_header = "specialists.adapters.checkpoint.read_header"
    import specialists.adapters.checkpoint as checkpoint

    original = checkpoint.read_header

    def cut(*arguments: object) -> object:
        entries = original(*arguments)  # type: ignore[arg-type]
        path.write_bytes(path.read_bytes()[:20_000])
        return entries

    monkeypatch.setattr(read_header, cut)
    assert_refused(folder, base, "header_invalid", "cut short")


def test_a_model_file_instead_of_an_adapter_is_refused(folder: Path, base: QwenConfig):
    save_file({"model.embed_tokens.weight": torch.ones(8, 8)}, folder / WEIGHTS_FILE)
    assert_refused(folder, base, "tensor_unknown", "model.embed_tokens.weight")


@pytest.mark.parametrize("name", sorted(path.name for path in CATALOG.iterdir() if path.is_dir()))
def test_the_published_specialists_pass(name: str):
    folder = CATALOG / name
    manifest = read_folder_manifest(folder)
    assert manifest.name == name and manifest.base_sha256 == DEFAULT_BASE.sha256
    assert read_checkpoint(folder, DEFAULT_SHAPE, 64, torch.bfloat16, 2**30).weights.rank > 0
