"""The model card of a specialist, written from its own files: manifest, recipe, training facts, reports.

    python -m specialists.evaluation.card specialists/catalog/math --about about.md \\
        --report base.json specialist.json [--report ...]

Each `--report` is a pair of the same task, the base first, then the specialist; or the specialist's alone. Writes
`README.md`, puts the reports into `scores.json`, and the accuracies into the manifest. No number in the card is typed
by hand.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specialists.evaluation.bootstrap import bootstrap_interval
from specialists.evaluation.report import paired_scores
from specialists.manifest import MANIFEST_FILE, SpecialistManifest

Pair = tuple[
    dict[str, Any] | None, dict[str, Any]
]  # the base's report, if it was measured, and the specialist's


class CardError(ValueError):
    """Reports that cannot stand side by side; the message names them and says why."""


def read_pair(paths: Sequence[Path]) -> Pair:
    """Reports of one task. Raises CardError when they are not comparable."""
    if len(paths) == 1:
        return None, json.loads(paths[0].read_text(encoding="utf-8"))
    if len(paths) != 2:
        raise CardError(f"expected one report or two, found {len(paths)}")
    base, specialist = paths
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    for key in ("task", "split", "model", "num_items"):
        if first[key] != second[key]:
            raise CardError(f"{base} has {key} {first[key]!r}, {specialist} has {second[key]!r}")
    if first["adapter"] is not None or second["adapter"] is None:
        raise CardError(f"expected the base's report first, then the specialist's: {base}, {specialist}")
    return first, second


def score_row(pair: Pair) -> str:
    """One line of the card's table."""
    specialist = pair[1]
    cells = [
        f"{specialist['task']}/{specialist['split']} ({specialist['num_items']})",
        *(_accuracy(report) for report in pair),
        _difference(pair),
        *("" if report is None else f"{100 * report['format_adherence']:.1f}%" for report in pair),
        *("" if report is None else f"{report['num_tokens'] / report['num_items']:.0f}" for report in pair),
    ]
    return "| " + " | ".join(cells) + " |"


def _accuracy(report: dict[str, Any] | None) -> str:
    if report is None:
        return ""
    low, high = report["interval"]
    credit = f", score {100 * report['score']:.1f}" if "scores" in report else ""
    return f"{100 * report['accuracy']:.1f}% [{100 * low:.1f}, {100 * high:.1f}]{credit}"


def _difference(pair: Pair) -> str:
    """Points gained (of credit, where the task gives some), with the 95% interval of a bootstrap over the same items."""
    base, specialist = pair
    if base is None:
        return ""
    changes = [after - before for before, after in paired_scores(base, specialist)]
    low, high = bootstrap_interval(changes, pair[1]["seed"])
    return f"{100 * sum(changes) / len(changes):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def render_card(
    manifest: SpecialistManifest, about: str, training: dict[str, Any], pairs: Sequence[Pair]
) -> str:
    """The whole card as Markdown."""
    measured = pairs[0][1]
    lines = [
        f"# {manifest.name}",
        "",
        manifest.description,
        "",
        about.strip(),
        "",
        "## Measured",
        "",
        "Greedy, one answer each; accuracy with its 95% bootstrap interval; the difference (of the score, where there is "
        "one) with that of a paired bootstrap. "
        "Form: the asked ending or code block. None of these rows was trained or tuned on.",
        "",
        "| task (items) | base | specialist | points | form, base | form, specialist | tokens, base | tokens, specialist |",
        "|---|---|---|---|---|---|---|---|",
        *(score_row(pair) for pair in pairs),
        "",
        f"Measured on {measured['machine']}, commit {measured['commit']}, {measured['date'][:10]}, bootstrap seed "
        f"{measured['seed']}, by `polymath evaluate specialist`; the reports are in `scores.json`.",
        "",
        "## Trained",
        "",
        f"By `{manifest.recipe}` (a copy is `recipe.toml`), seed {manifest.seed}, commit {manifest.commit}, on "
        f"{training['machine']}: {training['num_train_rows']} rows, {training['num_steps']} steps.",
        f"Base weights sha256 `{manifest.base_sha256}`, data sha256 `{manifest.data_sha256}`.",
        "",
        "Format: PEFT LoRA. Licence: Apache-2.0, as the base.",
        "",
    ]
    return "\n".join(lines)


def write_card(folder: Path, about: str, pairs: Sequence[Pair]) -> None:
    """Write README.md and scores.json into the specialist's folder, and its accuracies into the manifest."""
    manifest = SpecialistManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    scores = {f"{after['task']}/{after['split']}": round(after["accuracy"], 4) for _, after in pairs}
    manifest = manifest.model_copy(update={"scores": scores})
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "scores.json").write_text(json.dumps(pairs, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render_card(manifest, about, training, pairs), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write a specialist's model card from its reports.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--about", type=Path, required=True, help="Markdown on data and method")
    parser.add_argument("--report", type=Path, nargs="+", action="append", required=True, metavar="REPORT")
    options = parser.parse_args(arguments)
    try:
        write_card(
            options.folder,
            options.about.read_text(encoding="utf-8"),
            [read_pair(paths) for paths in options.report],
        )
    except (CardError, OSError, KeyError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
