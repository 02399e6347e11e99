"""The comparison of ways to distil: the recipes it derives, and what runs share."""

import tomllib
from pathlib import Path

import pytest

from bench.distillation import METHODS, derive, share_lessons
from specialists.training.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "specialists" / "recipes"


@pytest.mark.parametrize("name", ["math", "commonsense", "finance"])
@pytest.mark.parametrize("method", METHODS)
def test_a_derived_recipe_differs_in_method_and_steps_alone(tmp_path: Path, name: str, method: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text()
    path = tmp_path / "derived.toml"
    path.write_text(derive(text, "x", method, 7, "int8"))
    derived, original = read_recipe(path), read_recipe(RECIPES / f"{name}.toml")
    assert (derived.name, derived.batching.max_steps) == ("x", 7)
    assert derived.method == ("sft" if method == "sft" else "distill")
    assert derived.sources == original.sources and derived.optimizer == original.optimizer
    assert (
        derived.shortcut == original.shortcut
        and derived.gate == original.gate
        and derived.lora == original.lora
    )
    weights = tomllib.loads(path.read_text()).get("distill", {"teachers": []})
    assert weights.pop("teachers") == ([] if method == "sft" else [{"quantization": "int8"}])
    assert method == "sft" or sum(weights.values()) == 1.0


def test_a_teachers_lessons_are_handed_on(tmp_path: Path) -> None:
    first = tmp_path / "math-hidden.run" / "lessons-1a"
    first.mkdir(parents=True)
    (first / "lessons-00000.safetensors").write_bytes(b"said")
    run = tmp_path / "math-both.run"
    for _ in range(2):
        share_lessons(tmp_path, run)
    assert (run / "lessons-1a" / "lessons-00000.safetensors").read_bytes() == b"said"
