"""SFT against distillation from logits, from hidden states, and from both: same rows, same steps, same seed.

    python -m bench.distillation specialists/recipes/commonsense.toml --steps 20 --task commonsenseqa \\
        --data ../shared/data [--data runs] --out runs/methods [--limit 600] [--quantization int8]

Each method trains by the recipe with its own `[distill]` section. It is measured on the test rows of `--task` and stands
beside the base and the first method with paired differences.
Interrupted, the same command goes on where it was.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.results import describe_run
from specialists.evaluation.bootstrap import bootstrap_interval
from specialists.evaluation.report import paired_scores

# Those with hidden states before the one without: what a teacher says with them serves it as well.
METHODS = {
    "sft": None,
    "hidden": "answer_weight = 0.5\nlogit_weight = 0.0\nhidden_weight = 0.5\n",
    "both": "answer_weight = 0.5\nlogit_weight = 0.25\nhidden_weight = 0.25\n",
    "logits": "answer_weight = 0.5\nlogit_weight = 0.5\n",
}


def derive(recipe: str, name: str, method: str, steps: int, teacher_quantization: str = "none") -> str:
    """The recipe's text with another name, method and number of steps. Raises ValueError without `[batching]`."""
    if "[batching]\n" not in recipe:
        raise ValueError("the recipe has no line [batching] to put the number of steps under")
    recipe = re.sub(r'^name = ".*"$', f'name = "{name}"', recipe, count=1, flags=re.MULTILINE)
    text = re.sub(r"^max_steps = .*\n", "", recipe, flags=re.MULTILINE)
    text = text.replace("[batching]\n", f"[batching]\nmax_steps = {steps}\n", 1)
    section = METHODS[method]
    if section is None:
        return text
    teachers = f'teachers = [{{ quantization = "{teacher_quantization}" }}]\n'
    return f'method = "distill"\n{text}\n[distill]\n{teachers}{section}'


def polymath(*arguments: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "server", *arguments], check=True, env={**os.environ, **environment}
    )


def measure(options: argparse.Namespace, who: str) -> dict[str, Any]:
    """The report of the base or of a trained folder, made if it is not there."""
    limit = [] if options.limit is None else ["--limit", str(options.limit)]
    common = [
        "--task",
        options.task,
        "--data",
        str(options.data[0]),
        "--out",
        str(options.out / "reports"),
        *limit,
    ]
    polymath("evaluate", "specialist", who, *common, POLYMATH_QUANTIZATION=options.quantization)
    precision = "" if options.quantization == "none" else f"-{options.quantization}"
    report = options.out / "reports" / f"{Path(who).name}{precision}_{options.task}.json"
    return json.loads(report.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def share_lessons(out: Path, run: Path) -> None:
    """What a teacher said in an earlier run is not asked again: its files, named by content, are linked here."""
    for folder in sorted(out.glob("*.run/lessons-*")):
        target = run / folder.name
        if not target.exists():
            shutil.copytree(folder, target, copy_function=os.link)


def difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    changes = [second - first for first, second in paired_scores(before, after)]
    low, high = bootstrap_interval(changes, after["seed"])
    return f"{100 * sum(changes) / len(changes):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways of distilling on one recipe.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="Folder of the public sets; further ones are searched for the recipe's files.",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--quantization", default="none", help="Of the base when answers are measured.")
    parser.add_argument("--teacher-quantization", default="none", help="Of the teacher when it reads.")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    base = measure(options, "base")
    rows: list[dict[str, Any]] = []
    first: dict[str, Any] | None = None
    for method in options.methods:
        name = f"{options.recipe.stem}-{method}"
        recipe = options.out / f"{name}.toml"
        original = options.recipe.read_text(encoding="utf-8")
        text = derive(original, name, method, options.steps, options.teacher_quantization)
        if recipe.exists() and recipe.read_text(encoding="utf-8") != text:
            sys.exit(f"{recipe} is of another recipe or number of steps; choose another --out")
        recipe.write_text(text, encoding="utf-8")
        if not (options.out / name).is_dir():
            share_lessons(options.out, options.out / f"{name}.run")
            folders = [argument for folder in options.data for argument in ("--data", str(folder))]
            polymath(
                "train", "specialist", str(recipe), *folders, "--out", str(options.out / name), "--resume"
            )
        report = measure(options, str(options.out / name))
        first = first or report
        training = json.loads((options.out / name / "training.json").read_text(encoding="utf-8"))
        rows.append(
            {
                "method": method,
                "accuracy": report["accuracy"],
                "format": report["format_adherence"],
                "points_over_base": difference(base, report),
                f"points_over_{options.methods[0]}": difference(first, report),
                "steps": training["num_steps"],
                "validation_loss": training["best_loss"],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    result = {
        **describe_run(),
        "recipe": str(options.recipe),
        "quantization": options.quantization,
        "teacher_quantization": options.teacher_quantization,
        "task": options.task,
        "base": base["accuracy"],
        "rows": rows,
    }
    (options.out / f"{options.recipe.stem}-methods.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
