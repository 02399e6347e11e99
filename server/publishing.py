"""What `polymath publish` and `polymath merge` do with the settings: measure base and specialist, judge, move in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from server.dispatch import BASE
from server.measuring import Plan, measure, open_specialist
from server.settings import CATALOG, Settings
from specialists.base_model import resolve_base
from specialists.gate import GateError, ReportPair, judge
from specialists.manifest import read_manifest
from specialists.merge import MergePlan, merge_adapters
from specialists.publish import PublishError, check_candidate, publish
from specialists.training.adapter_folder import RECIPE_FILE
from specialists.training.method_sections import Gate
from specialists.training.recipe import read_recipe

_RECIPES = CATALOG.parent / "recipes"


def publish_specialist(
    settings: Settings, candidate: Path, gate_file: Path | None, about_file: Path | None, reports: Path | None
) -> None:
    """Raises GateError when it is refused, PublishError, RecipeError, and what measuring raises."""
    check_candidate(candidate, settings.catalog)
    gate = _read_gate(gate_file or candidate / RECIPE_FILE)
    name = read_manifest(candidate).name
    about = _read_about(about_file or _RECIPES / f"{name}.about.md")
    out = reports or candidate.with_name(f"{candidate.name}.reports")
    pairs = [
        *_measure(settings, candidate, gate.own, gate.limit, out),
        *_measure(settings, candidate, gate.others, gate.others_limit or gate.limit, out),
    ]
    verdict, earlier = judge(gate, pairs), []
    if verdict.passes and _is_comparable(settings.catalog / name, candidate):
        earlier = _report(settings, settings.catalog / name, gate.own, gate.limit, out / "published")
        verdict = judge(gate, pairs, earlier)
    console = Console(highlight=False, soft_wrap=True)
    for line in verdict.lines():
        console.print(line, markup=False)
    publish(candidate, settings.catalog, gate, pairs, about, earlier)
    console.print(f"published: {settings.catalog / name}", markup=False)


def merge_specialists(settings: Settings, folders: Sequence[Path], plan: MergePlan, out: Path | None) -> None:
    """Raises MergeError, AdapterError, AdapterFolderError."""
    target = out or Path("runs") / plan.name
    merge_adapters(resolve_base(settings.base, settings.home), folders, plan, target)
    Console(highlight=False, soft_wrap=True).print(f"merged: {target}", markup=False)


def _read_gate(path: Path) -> Gate:
    gate = read_recipe(path).gate
    if gate is None:
        raise GateError(f"{path} has no section [gate]; --gate names a recipe that has one")
    return gate


def _read_about(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PublishError(f"no text for the model card: {error}; --about names one") from error


def _is_comparable(published: Path, candidate: Path) -> bool:
    """Whether there is a version to replace, and of the same base: one of another cannot be run on this one."""
    if not published.is_dir():
        return False
    return read_manifest(published).base_sha256 == read_manifest(candidate).base_sha256


def _measure(
    settings: Settings, candidate: Path, tasks: tuple[str, ...], limit: int | None, out: Path
) -> list[ReportPair]:
    """The base first, then the specialist; answers that the folder of reports holds are not asked for again."""
    if not tasks:
        return []
    base = _report(settings, BASE, tasks, limit, out)
    return list(zip(base, _report(settings, candidate, tasks, limit, out), strict=True))


def _report(
    settings: Settings, subject: Path | str, tasks: tuple[str, ...], limit: int | None, out: Path
) -> list[dict[str, Any]]:
    plan = Plan(tasks=tasks, split="test", limit=limit, seed=20, out=out, stress=False, max_new_tokens=None)
    return [
        report.to_json() for report in measure(settings, plan, open_specialist(settings, str(subject), None))
    ]
