"""Several adapters merged into one, by PEFT's weighted adapters: a generalist that costs one adapter.

`linear` adds weighted A and B matrices (equal ranks only); `ties` (arXiv:2306.01708) and `dare_ties` (arXiv:2311.03099) keep
the share `density` of each adapter's changes, largest or at random, and take the mean of those whose signs agree; `svd`
adds the weighted products and finds the nearest ones of the wanted rank. By default an adapter merged with itself is
itself again, whatever the method.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from specialists.adapters.checkpoint import read_checkpoint
from specialists.base_model import base_sha256
from specialists.engine.qwen_config import read_qwen_config
from specialists.evaluation.provenance import current_commit
from specialists.manifest import MANIFEST_FILE, SpecialistManifest, read_manifest
from specialists.training.adapter_folder import TRAINING_FILE, whole_folder

MergeMethod = Literal["linear", "ties", "dare_ties", "svd"]
_MERGED = "merged"
_MAX_RANK = 64


class MergeError(ValueError):
    """Adapters that cannot be merged; the message names them and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """How to merge. `weights` as many as adapters, equal ones by default (of ties 1 each, else shares of 1); `rank` for svd,
    the parents' by default.

    Raises MergeError naming the field that cannot work.
    """

    name: str
    method: MergeMethod = "ties"
    weights: tuple[float, ...] = ()
    density: float = 0.5
    rank: int | None = None
    seed: int = 20

    def __post_init__(self) -> None:
        if self.method not in get_args(MergeMethod):
            raise MergeError(f"no merge method {self.method!r}; there are {', '.join(get_args(MergeMethod))}")
        if not 0 < self.density <= 1:
            raise MergeError(f"density must be above 0 and at most 1, got {self.density}")
        if self.rank is not None and not 1 <= self.rank <= _MAX_RANK:
            raise MergeError(f"rank must be between 1 and {_MAX_RANK}, got {self.rank}")
        if self.rank is not None and self.method != "svd":
            raise MergeError(f"only svd chooses a rank; {self.method} keeps that of the adapters")


def merge_adapters(base: Path, parents: Sequence[Path], plan: MergePlan, out: Path) -> None:
    """Write the merged adapter into `out`, which the engine has read once then.

    Raises MergeError, AdapterError naming a parent that is not usable, AdapterFolderError when `out` is there.
    """
    manifests = _check(base, parents, plan)
    torch.manual_seed(plan.seed)  # dare drops at random
    causal = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    names = [f"parent{index}" for index in range(len(parents))]
    model = PeftModel.from_pretrained(causal, parents[0], adapter_name=names[0])
    for name, folder in zip(names[1:], parents[1:], strict=True):
        model.load_adapter(folder, adapter_name=name)
    # The merged adapter gets the first one's configuration: with its layers alone, the others would lose theirs, and the
    # parents' scaling, rsLoRA's too, is in the merged matrices already.
    first = model.peft_config[names[0]]
    first.layers_to_transform = _all_layers([model.peft_config[name] for name in names])
    first.use_rslora = False
    model.add_weighted_adapter(
        names, list(_weights(plan, len(parents))), _MERGED, combination_type=plan.method, **_options(plan)
    )
    _write(model, base, manifests, plan, out)


def _check(base: Path, parents: Sequence[Path], plan: MergePlan) -> list[SpecialistManifest]:
    if len(parents) < 2:
        raise MergeError(f"a merge needs at least two adapters, got {len(parents)}")
    if plan.weights and len(plan.weights) != len(parents):
        raise MergeError(f"{len(plan.weights)} weights for {len(parents)} adapters")
    config = read_qwen_config(base)
    for folder in parents:
        read_checkpoint(
            folder, config, _MAX_RANK, torch.float32
        )  # refuses by name what the engine would refuse
    ranks = [json.loads((folder / "adapter_config.json").read_bytes())["r"] for folder in parents]
    if plan.method != "svd" and len(set(ranks)) > 1:
        raise MergeError(f"{plan.method} needs adapters of one rank, got {ranks}; svd takes any")
    manifests = [read_manifest(folder) for folder in parents]
    own = base_sha256(base)
    for folder, manifest in zip(parents, manifests, strict=True):
        if None not in (own, manifest.base_sha256) and manifest.base_sha256 != own:
            raise MergeError(f"{folder} was trained on the base {manifest.base_sha256}, this one is {own}")
    return manifests


def _all_layers(configs: Sequence[Any]) -> list[int] | None:
    """The layers that any of them changes; None for every layer."""
    layers = [config.layers_to_transform for config in configs]
    if any(one is None for one in layers):
        return None
    return sorted({number for one in layers for number in ([one] if isinstance(one, int) else one)})


def _weights(plan: MergePlan, count: int) -> tuple[float, ...]:
    """What PEFT is given: its ties takes a mean itself, its linear multiplies A and B by the root of the weight each."""
    if plan.method in ("ties", "dare_ties"):
        return plan.weights or (1.0,) * count
    weights = plan.weights or (1.0 / count,) * count
    return weights if plan.method == "svd" else tuple(weight * abs(weight) for weight in weights)


def _options(plan: MergePlan) -> dict[str, Any]:
    if plan.method == "svd":
        return {"svd_rank": plan.rank}
    if plan.method == "linear":
        return {}
    return {"density": plan.density, "majority_sign_method": "total"}


def _write(model: Any, base: Path, parents: Sequence[SpecialistManifest], plan: MergePlan, out: Path) -> None:
    names = [parent.name for parent in parents]
    manifest = SpecialistManifest(
        name=plan.name,
        description=f"Merged from {', '.join(names)} by {plan.method}.",
        base_sha256=base_sha256(base),
        seed=plan.seed,
        commit=current_commit(),
    )
    facts = {"method": plan.method, "parents": names, "weights": plan.weights or None}
    with whole_folder(out) as folder:
        for key, parameter in model.named_parameters():
            if f".{_MERGED}." in key:
                parameter.data = parameter.data.bfloat16()
        model.save_pretrained(folder, selected_adapters=[_MERGED])
        for path in (folder / _MERGED).iterdir():  # PEFT gives a named adapter a folder of its own
            path.rename(folder / path.name).chmod(0o644)  # safetensors writes for the owner alone
        (folder / _MERGED).rmdir()
        (folder / "README.md").unlink(missing_ok=True)
        details = {**facts, "density": plan.density, "rank": plan.rank, "seed": plan.seed}
        (folder / TRAINING_FILE).write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        read_checkpoint(folder, read_qwen_config(base), _MAX_RANK, torch.bfloat16)
