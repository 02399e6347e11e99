"""Merged adapters against the arithmetic they stand for, and as the engine reads them."""

import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from specialists.adapters.checkpoint import AdapterError
from specialists.adapters.registry import AdapterRegistry
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.qwen_config import read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from specialists.merge import MergeError, MergePlan, merge_adapters
from tests.specialists.conftest import MakeAdapter


@pytest.fixture
def parents(make_adapter: MakeAdapter, tiny_qwen2: Path) -> list[Path]:
    return [make_adapter(tiny_qwen2, f"parent-{seed}", seed=seed, std=0.05) for seed in (1, 2)]


def products(folder: Path) -> dict[str, torch.Tensor]:
    """B A of each matrix, scaled: what an adapter adds to the base."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    return {
        name: scale * (tensors[name.replace("lora_A", "lora_B")].float() @ tensor.float())
        for name, tensor in tensors.items()
        if "lora_A" in name
    }


def test_svd_of_full_rank_is_the_weighted_sum(parents: list[Path], tiny_qwen2: Path, tmp_path: Path) -> None:
    out = tmp_path / "generalist"
    merge_adapters(
        tiny_qwen2, parents, MergePlan(name="generalist", method="svd", rank=8, weights=(0.7, 0.3)), out
    )
    merged, (one, other) = products(out), map(products, parents)
    for name, product in merged.items():
        torch.testing.assert_close(product, 0.7 * one[name] + 0.3 * other[name], rtol=0.05, atol=0.01)


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "svd"])
def test_the_engine_answers_with_the_merged_adapter(
    method: str, parents: list[Path], tiny_qwen2: Path, tmp_path: Path, tiny_engine: LLMEngine
) -> None:
    out = tmp_path / "merged"
    merge_adapters(tiny_qwen2, parents, MergePlan(name="generalist", method=method), out)  # type: ignore[arg-type]
    adapter = AdapterRegistry(read_qwen_config(tiny_qwen2), dtype=torch.float32).load(out)
    assert adapter.name == "generalist"
    assert "parent-1, parent-2" in adapter.manifest.description
    params = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    prompts = [[5, 9, 33], [7, 200, 41, 6]]
    merged = [one.token_ids for one in tiny_engine.generate(prompts, params, adapter)]
    assert merged != [one.token_ids for one in tiny_engine.generate(prompts, params)]


@pytest.mark.parametrize("uses_rslora", [False, True])
@pytest.mark.parametrize("num_parents", [2, 3])
@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "svd"])
def test_an_adapter_merged_with_itself_is_itself(
    method: str, num_parents: int, uses_rslora: bool, parents: list[Path], tiny_qwen2: Path, tmp_path: Path
) -> None:
    config = json.loads((parents[0] / "adapter_config.json").read_text())
    config["use_rslora"] = uses_rslora
    (parents[0] / "adapter_config.json").write_text(json.dumps(config))
    plan = MergePlan(name="g", method=method, density=0.9999)  # PEFT warns of 1  # type: ignore[arg-type]
    merge_adapters(tiny_qwen2, [parents[0]] * num_parents, plan, tmp_path / "merged")
    merged = products(tmp_path / "merged")
    for name, product in products(parents[0]).items():
        torch.testing.assert_close(merged[name], product, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("has_all", [True, False])
@pytest.mark.parametrize("method", ["linear", "ties", "svd"])
def test_layers_that_only_one_parent_has_are_kept(
    method: str, has_all: bool, is_first: bool, parents: list[Path], tiny_qwen2: Path, tmp_path: Path
) -> None:
    num_layers = read_qwen_config(tiny_qwen2).num_layers
    _keep_layers(parents[0], range(1, num_layers))
    if not has_all:
        _keep_layers(parents[1], range(num_layers - 1))
    order = parents if is_first else parents[::-1]
    rank = 8 if method == "svd" else None
    plan = MergePlan(name="g", method=method, weights=(0.7, 0.3), rank=rank)  # type: ignore[arg-type]
    merge_adapters(tiny_qwen2, order, plan, tmp_path / "merged")
    merged, (one, other) = products(tmp_path / "merged"), map(products, order)
    assert merged.keys() == one.keys() | other.keys()
    if method == "svd":
        for name, product in merged.items():
            expected = 0.7 * one.get(name, torch.zeros(1)) + 0.3 * other.get(name, torch.zeros(1))
            torch.testing.assert_close(product, expected, rtol=0.05, atol=0.01)
    assert stat.S_IMODE((tmp_path / "merged" / "adapter_model.safetensors").stat().st_mode) == 0o644


def _keep_layers(folder: Path, layers: range) -> None:
    """Make it an adapter of these layers alone."""
    path = folder / "adapter_model.safetensors"
    kept = tuple(f".layers.{number}." for number in layers)
    tensors = {name: one for name, one in load_file(path).items() if any(part in name for part in kept)}
    save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config["layers_to_transform"] = list(layers)
    (folder / "adapter_config.json").write_text(json.dumps(config))


def test_what_cannot_be_merged_is_named(
    parents: list[Path],
    make_adapter: MakeAdapter,
    tiny_qwen2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "merged"
    wide = make_adapter(tiny_qwen2, "wide", rank=8)
    with pytest.raises(MergeError, match=r"ties needs adapters of one rank, got \[4, 8\]; svd takes any"):
        merge_adapters(tiny_qwen2, [parents[0], wide], MergePlan(name="g"), out)
    with pytest.raises(MergeError, match="1 weights for 2 adapters"):
        merge_adapters(tiny_qwen2, parents, MergePlan(name="g", weights=(1.0,)), out)
    with monkeypatch.context() as patch:
        patch.setattr("specialists.merge.base_sha256", lambda folder: "b" * 64)
        path = parents[1] / "manifest.json"
        manifest = json.loads(path.read_text()) if path.exists() else {"name": "parent-2"}
        path.write_text(json.dumps({**manifest, "base_sha256": "a" * 64}))
        with pytest.raises(MergeError, match=r"parent-2 was trained on the base a{64}, this one is b{64}"):
            merge_adapters(tiny_qwen2, parents, MergePlan(name="g"), out)
    with pytest.raises(MergeError, match="at least two"):
        merge_adapters(tiny_qwen2, parents[:1], MergePlan(name="g"), out)
    with pytest.raises(AdapterError, match="nowhere"):
        merge_adapters(tiny_qwen2, [parents[0], tmp_path / "nowhere"], MergePlan(name="g"), out)
    with pytest.raises(MergeError, match="no merge method 'mean'"):
        MergePlan(name="g", method="mean")  # type: ignore[arg-type]
    with pytest.raises(MergeError, match="density"):
        MergePlan(name="g", density=0)
    with pytest.raises(MergeError, match="only svd chooses a rank"):
        MergePlan(name="g", rank=4)
    assert list(tmp_path.iterdir()) == []
