"""The move into the catalog: whole or not at all, also over an older version."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specialists import publish as publishing
from specialists.gate import GateError
from specialists.manifest import read_manifest
from specialists.publish import PublishError, check_candidate, publish
from specialists.training.method_sections import Gate
from tests.specialists.test_gate import pair

GATE = Gate(own=("own",))
FACTS = {"task": "own", "interval": [0.1, 0.2], "format_adherence": 1.0, "num_tokens": 400, "machine": "here"}


def described(base: range, specialist: range) -> list[Any]:
    """A pair with what the card tells of it."""
    extra = {**FACTS, "accuracy": 0.3, "score": 0.3, "commit": "abc", "date": "2026-11-22T00:00:00"}
    return [tuple({**extra, **one} for one in pair("own", base, specialist))]


GAIN = described(range(60), range(120))


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "spanish"
    folder.mkdir(parents=True)
    manifest = {
        "name": "spanish",
        "intent": "spanish",
        "examples": ["¿Qué hora es?"],
        "base_sha256": "b" * 64,
        "data_sha256": "d" * 64,
        "recipe": "specialists/recipes/spanish.toml",
        "commit": "abc",
        "seed": 20,
    }
    training = {"machine": "here", "num_train_rows": 10, "num_steps": 3}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "adapter_model.safetensors").write_bytes(b"w" * 100)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "recipe.toml").write_text("")
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_passes_is_in_the_catalog_with_card_scores_and_verdict(candidate: Path, catalog: Path) -> None:
    verdict = publish(candidate, catalog, GATE, GAIN, "Trained on questions.")
    assert verdict.passes
    published = catalog / "spanish"
    assert {"README.md", "scores.json", "gate.json", "adapter_model.safetensors"} <= names(published)
    assert names(catalog) == {"spanish"}
    assert read_manifest(published).scores == {"own/test": 0.3}
    card = (published / "README.md").read_text()
    assert "Trained on questions." in card and "d" * 64 in card and "b" * 64 in card
    assert json.loads((published / "gate.json").read_text())["own"]["mean"] == pytest.approx(0.3)
    assert "README.md" not in names(candidate)  # the run's own folder stays as it was


def test_what_is_refused_leaves_the_catalog_as_it_was(candidate: Path, catalog: Path) -> None:
    with pytest.raises(GateError, match=r"spanish is refused: on its own domain it gains \+0\.0 points"):
        publish(candidate, catalog, GATE, described(range(60), range(60)), "")
    assert not catalog.exists()


def test_an_exception_is_recorded_in_the_card(candidate: Path, catalog: Path) -> None:
    gate = GATE.model_copy(update={"exception": "There before the gate."})
    publish(candidate, catalog, gate, described(range(60), range(60)), "About.")
    card = (catalog / "spanish" / "README.md").read_text()
    assert "**Exception to the gate.** There before the gate. What the gate found: on its own domain" in card


def test_a_newer_version_takes_the_place_of_the_older(candidate: Path, catalog: Path) -> None:
    publish(candidate, catalog, GATE, GAIN, "First.")
    (candidate / "adapter_model.safetensors").write_bytes(b"v" * 100)
    publish(candidate, catalog, GATE, GAIN, "Second.")
    assert (catalog / "spanish" / "adapter_model.safetensors").read_bytes() == b"v" * 100
    assert names(catalog) == {"spanish"}
    publish(catalog / "spanish", catalog, GATE, GAIN, "Third.")  # one that is published already
    assert "Third." in (catalog / "spanish" / "README.md").read_text()


def fail(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def no_space(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        target = shutil if name == "copytree" else publishing
        monkeypatch.setattr(target, name, no_space)

    return patch


@pytest.mark.parametrize("step", ["copytree", "write_card", "sync_folder", "_exchange"])
def test_a_disk_that_fails_at_any_step_leaves_the_older_version_whole(
    step: str, candidate: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(candidate, catalog, GATE, GAIN, "First.")
    before = {path.name: path.read_bytes() for path in (catalog / "spanish").iterdir()}
    (candidate / "adapter_model.safetensors").write_bytes(b"v" * 100)
    fail(step)(monkeypatch)
    with pytest.raises(PublishError, match=r"was left as it was: .*No space left on device"):
        publish(candidate, catalog, GATE, GAIN, "Second.")
    assert {path.name: path.read_bytes() for path in (catalog / "spanish").iterdir()} == before
    assert names(catalog) == {"spanish"}


def test_a_candidate_that_lacks_something_or_is_too_large_is_named(
    candidate: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_candidate(candidate, catalog)
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "MAX_SPECIALIST_BYTES", 50)
        with pytest.raises(PublishError, match="0 MB are allowed"):
            check_candidate(candidate, catalog)
    (catalog / "math").mkdir(parents=True)
    (catalog / "math" / "adapter_model.safetensors").write_bytes(b"w" * 1000)
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "MAX_CATALOG_BYTES", 1000)
        with pytest.raises(PublishError, match="the catalog would have"):
            check_candidate(candidate, catalog)
    (candidate / "recipe.toml").unlink()
    with pytest.raises(PublishError, match=r"recipe\.toml missing"):
        check_candidate(candidate, catalog)
    (candidate / "recipe.toml").write_text("")
    manifest = json.loads((candidate / "manifest.json").read_text())
    (candidate / "manifest.json").write_text(json.dumps({**manifest, "intent": None}))
    with pytest.raises(PublishError, match="declares no intent"):
        check_candidate(candidate, catalog)
    (candidate / "manifest.json").write_text(json.dumps({**manifest, "base_sha256": None}))
    with pytest.raises(PublishError, match="by their hashes"):
        check_candidate(candidate, catalog)
