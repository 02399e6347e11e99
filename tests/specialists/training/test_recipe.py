from pathlib import Path

import pytest

from specialists.training.recipe import ALL_TARGETS, Recipe, RecipeError, read_recipe

MINIMAL = 'name = "math"\nbase = "tiny"\nseed = 3\n[[sources]]\npath = "a.jsonl"\n'
RECIPES = Path(__file__).parents[3] / "specialists" / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_minimal_recipe_has_defaults(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, MINIMAL))
    assert recipe.lora.targets == ALL_TARGETS
    assert recipe.sources[0].templates == ("{prompt}",)


@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ("[lora]\nrnak = 4\n", r"lora\.rnak"),
        ("learning_rate = 1\n", "learning_rate"),
        ("[lora]\nrank = 0\n", r"lora\.rank"),
        ('[lora]\ntargets = ["lm_head"]\n', r"lora\.targets\.0"),
        ("[batching]\nmax_seq_len = 4096\n", "must not exceed pack_tokens"),
        ("[optimizer]\nlr = 'fast'\n", r"optimizer\.lr"),
        ("[lora\n", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_names_the_file_and_the_key(tmp_path: Path, addition: str, problem: str) -> None:
    text = addition + MINIMAL if "=" in addition.splitlines()[0] else MINIMAL + addition
    with pytest.raises(RecipeError, match=problem) as error:
        read_recipe(write(tmp_path, text))
    assert "recipe.toml" in str(error.value)


def test_every_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="base: Field required; seed: Field required; sources"):
        read_recipe(write(tmp_path, 'name = "math"\n'))
    with pytest.raises(RecipeError, match="cannot read"):
        read_recipe(tmp_path / "none.toml")


def test_the_fingerprint_follows_what_changes_the_weights(tmp_path: Path) -> None:
    one = read_recipe(write(tmp_path, MINIMAL))
    described = one.model_copy(update={"manifest": one.manifest.model_copy(update={"intent": "math"})})
    assert described.fingerprint() == one.fingerprint()
    assert one.model_copy(update={"seed": 4}).fingerprint() != one.fingerprint()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_committed_recipes_are_valid(path: Path) -> None:
    recipe: Recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.manifest.intent
