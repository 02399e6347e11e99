"""From a trained folder to the catalog: judged, described, and moved in whole, or not at all.

The folder is copied beside its place, gets its card, scores and verdict there, is synced to the disk, and takes its
place in one step, also where an older version stands. What fails on the way leaves the catalog as it was.
"""

import ctypes
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specialists.evaluation.card import write_card
from specialists.gate import GateError, ReportPair, Verdict, judge
from specialists.manifest import read_manifest
from specialists.sources.disk import sync_file
from specialists.training.adapter_folder import RECIPE_FILE, TRAINING_FILE, sync_folder
from specialists.training.method_sections import Gate

MAX_SPECIALIST_BYTES = 10_000_000
MAX_CATALOG_BYTES = 60_000_000
VERDICT_FILE = "gate.json"

_NEEDED = ("adapter_config.json", "adapter_model.safetensors", "manifest.json", TRAINING_FILE, RECIPE_FILE)
_AT_CWD, _EXCHANGE = -100, 2  # of renameat2(2)


class PublishError(ValueError):
    """A folder that cannot be published; the message names it and says what is missing or too large."""


def check_candidate(candidate: Path, catalog: Path) -> None:
    """Before anything slow: whole, small enough, and with a domain. Raises PublishError or ManifestError."""
    missing = [name for name in _NEEDED if not (candidate / name).is_file()]
    if missing:
        raise PublishError(f"{candidate} is not a trained specialist: {', '.join(missing)} missing")
    manifest = read_manifest(candidate)
    if manifest.intent is None or not manifest.examples:
        raise PublishError(
            f"{candidate}: the manifest declares no intent or no examples; nobody would be routed to it"
        )
    if manifest.base_sha256 is None or manifest.data_sha256 is None:
        raise PublishError(f"{candidate}: the manifest does not name base weights and data by their hashes")
    size = _size(candidate)
    if size > MAX_SPECIALIST_BYTES:
        raise PublishError(
            f"{candidate} has {size / 1e6:.1f} MB; {MAX_SPECIALIST_BYTES / 1e6:.0f} MB are allowed"
        )
    others = sum(_size(folder) for folder in catalog.glob("*/") if folder.name != manifest.name)
    if others + size > MAX_CATALOG_BYTES:
        raise PublishError(
            f"with {candidate} the catalog would have {(others + size) / 1e6:.1f} MB; "
            f"{MAX_CATALOG_BYTES / 1e6:.0f} MB are allowed"
        )


def publish(
    candidate: Path,
    catalog: Path,
    gate: Gate,
    pairs: Sequence[ReportPair],
    about: str,
    published: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """Judge by the reports and, when it passes, move a copy in. `about` is the card's text on data and method.

    `published`: the reports of the version whose place it takes (`gate.judge`).
    Raises GateError with every reason when it is refused, PublishError when the disk refuses.
    """
    check_candidate(candidate, catalog)
    verdict = judge(gate, pairs, published)
    if not verdict.passes:
        raise GateError(f"{candidate} is refused: {'; '.join(verdict.refusals)}")
    name = read_manifest(candidate).name
    partial = catalog / f".{name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        catalog.mkdir(parents=True, exist_ok=True)
        shutil.copytree(candidate, partial)
        if verdict.refusals:
            about += f"\n\n**Exception to the gate.** {gate.exception} What the gate found: {'; '.join(verdict.refusals)}."
        write_card(partial, about, [(dict(base), dict(specialist)) for base, specialist in pairs])
        (partial / VERDICT_FILE).write_text(json.dumps(verdict.to_json(), indent=2) + "\n", encoding="utf-8")
        sync_folder(partial)
        _take_place(partial, catalog / name)
    except OSError as error:
        raise PublishError(f"{catalog / name} was left as it was: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return verdict


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _take_place(folder: Path, target: Path) -> None:
    """Rename; where `target` exists the two change places in one step, so that it is there at every moment."""
    if target.exists():
        _exchange(folder, target)
    else:
        folder.rename(target)
    sync_file(target.parent)


def _exchange(one: Path, other: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(other))
