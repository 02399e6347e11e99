from pathlib import Path

import pytest

from specialists.training.recipe import Recipe, RecipeError, read_recipe
from specialists.training.sections import ALL_TARGETS

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
        ("[lora]\nrnak = 4\n", r"unknown key lora\.rnak; did you mean rank\?"),
        ("metod = 'sft'\n", r"unknown key metod; did you mean method\?"),
        ("[[sources]]\npathh = 'x'\n", r"unknown key sources\.1\.pathh; did you mean path\?"),
        (
            "[[pretask.sources]]\npath = 'x'\nmaxrows = 3\n",
            r"pretask\.sources\.0\.maxrows; did you mean max_rows\?",
        ),
        ("[optimizer]\nzzz = 1\n", r"unknown key optimizer\.zzz; known: lr, "),
        ("[[sources]]\ntask = 'gsm8k'\npath = 'x'\n", "expected either path or task"),
        (
            'method = "distill"\nshortcut = {}\ndistill = { sequences = "student", answer_weight = 0 }\n',
            "the data's right letters",
        ),
        (
            'method = "distill"\nshortcut = { centered = 0.5 }\ndistill = { temperature = 2 }\n',
            'found distill.divergence = "forward_kl" at temperature 2',
        ),
        ("[distill]\ntop_k = 3\n", r'\[distill\] has no effect with method = "sft"'),
        ("method = 'grpo'\n", r"needs the section \[grpo\]"),
        ("method = 'distil'\n", "Input should be 'sft', 'distill' or 'grpo'"),
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
    with pytest.raises(RecipeError, match="base: Field required; seed: Field required"):
        read_recipe(write(tmp_path, 'name = "math"\n'))
    with pytest.raises(RecipeError, match="cannot read"):
        read_recipe(tmp_path / "none.toml")


def test_the_fingerprint_follows_what_changes_the_weights(tmp_path: Path) -> None:
    one = read_recipe(write(tmp_path, MINIMAL))
    other_base = one.model_copy(update={"quantization": "bnb-nf4"})
    assert other_base.fingerprint() != one.fingerprint()
    described = one.model_copy(update={"manifest": one.manifest.model_copy(update={"intent": "math"})})
    assert described.fingerprint() == one.fingerprint()
    assert one.model_copy(update={"seed": 4}).fingerprint() != one.fingerprint()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_committed_recipes_are_valid(path: Path) -> None:
    recipe: Recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.manifest.intent


def test_student_written_sequences_have_no_answer_to_learn(tmp_path: Path) -> None:
    text = 'method = "distill"\n' + MINIMAL + '[distill]\nsequences = "student"\n'
    with pytest.raises(RecipeError, match="answer_weight must be 0"):
        read_recipe(write(tmp_path, text))
    with pytest.raises(RecipeError, match="nothing of the teacher is learned"):
        read_recipe(write(tmp_path, 'method = "distill"\n' + MINIMAL + "[distill]\nlogit_weight = 0\n"))
