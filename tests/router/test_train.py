"""Training, end to end on a tiny encoder and made-up sources: learns, calibrates, saves what the Delegator loads."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from router import fitting
from router.dataset import DatasetConfig
from router.delegator import Delegator
from router.evaluate import evaluate_router
from router.finishing import FinishConfig
from router.fitting import FitConfig, Member
from router.intents import INTENTS
from router.item import Item, Role, Source
from router.rendering import Layout
from router.train import TrainConfig, refinish_router, train_router

LETTERS = dict(zip(INTENTS, "bdefghj", strict=True))


def _items(letter: str, offset: int, data: Path) -> Iterator[Item]:
    for n in range(40):
        yield Item(text=f"{letter} {letter} {offset + n} {letter}")


@pytest.fixture(scope="module")
def sources() -> Sequence[Source]:
    return [
        Source(
            name=f"{intent}_{role}",
            public_name="made up",
            intent=intent,
            role=role,
            load=partial(_items, letter, 1000 * number),
        )
        for number, role in enumerate(Role)
        for intent, letter in LETTERS.items()
        if role is not Role.OUT_OF_SCOPE or intent == "general"
    ]


CONFIG = TrainConfig(
    dataset=DatasetConfig(
        per_intent=40,
        per_source=10,
        noise=0.0,
        second_turn=0.0,
        layout=Layout(wrapping=0.0, filler=0.0, order=0.0),
    ),
    fit=FitConfig(epochs=6, rank=2, lora_rate=1e-2, head_rate=5e-2, bfloat16=False),
    members=(Member(seed=1, targets="query|value|dense"), Member(seed=2, targets="dense", weight=0.5)),
    finish=FinishConfig(
        max_tokens=24,
        range_prompts=10,
        bank_rows=20,
        bank_general_rows=40,
        bank_check_rows=10,
        fitted_chats=6,
    ),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, sources: Sequence[Source]) -> Path:
    out = tmp_path_factory.mktemp("trained")
    steps: list[tuple[int, int]] = []
    train_router(
        Path(), tiny_encoder, out, CONFIG, lambda step, total, loss: steps.append((step, total)), sources
    )
    assert [step for step, _ in steps] == list(range(1, steps[0][1] + 1))
    return out


def test_the_trained_part_is_learned_and_loadable(trained: Path, tiny_encoder: Path):
    delegator = Delegator.from_folder(tiny_encoder, trained)
    assert all(
        delegator.route_text(f"{letter} {letter} 77").intent == intent for intent, letter in LETTERS.items()
    )


def test_the_report_says_what_was_done(trained: Path, sources: Sequence[Source]):
    report = json.loads((trained / "report.json").read_text())
    assert report["config"]["fit"]["rank"] == 2
    assert report["held_out"]["accuracy"] > 0.9
    assert report["held_out"]["prompts"] == 70
    assert set(report["sources"]) == {source.name for source in sources}
    metadata = json.loads((trained / "router.json").read_text())
    assert metadata["measured"]["accuracy"] == report["held_out"]["accuracy"]
    assert metadata["temperature"] == report["temperature"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(
    trained: Path, tmp_path: Path, tiny_encoder: Path, sources: Sequence[Source]
):
    train_router(Path(), tiny_encoder, tmp_path, CONFIG, sources=sources)
    assert (tmp_path / "router.safetensors").read_bytes() == (trained / "router.safetensors").read_bytes()


@pytest.mark.slow
def test_an_interrupted_training_goes_on_where_it_was(
    trained: Path,
    tmp_path: Path,
    tiny_encoder: Path,
    sources: Sequence[Source],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(fitting, "_CHECKPOINT_STEPS", 5)
    seen: list[int] = []

    def stop_late(step: int, steps: int, loss: float) -> None:
        seen.append(step)
        if len(seen) == steps * 3 // 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_router(Path(), tiny_encoder, tmp_path, CONFIG, stop_late, sources)
    stopped_at = len(seen)
    train_router(Path(), tiny_encoder, tmp_path, CONFIG, lambda step, *_: seen.append(step), sources)
    assert len(seen) - stopped_at < stopped_at  # most of it was not done again
    assert (tmp_path / "router.safetensors").read_bytes() == (trained / "router.safetensors").read_bytes()
    assert not list(tmp_path.glob("members/*.checkpoint"))


def test_what_is_fitted_after_training_can_be_fitted_again(
    trained: Path, tmp_path: Path, tiny_encoder: Path, sources: Sequence[Source]
):
    for name in ("router.json", "router.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    report = refinish_router(Path(), tiny_encoder, tmp_path, CONFIG, sources)
    assert report["held_out"] == json.loads((trained / "report.json").read_text())["held_out"]
    for name in ("router.json", "router.safetensors", "bank.json", "bank.safetensors"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.slow
def test_evaluation_measures_it_beside_its_baselines(
    trained: Path, tiny_encoder: Path, sources: Sequence[Source]
):
    report = evaluate_router(Path(), tiny_encoder, trained, CONFIG.dataset, sources=sources)
    assert report["held_out"]["accuracy"] > 0.9
    assert report["baselines"]["majority"]["accuracy"] == pytest.approx(1 / len(INTENTS))
    assert set(report["baselines"]) == {"random", "majority", "keyword", "frozen_probe"}
    assert all(entry["p50"] > 0 for entry in report["latency_ms"].values())
    assert all(0 <= accuracy <= 1 for accuracy in report["stress"].values())
    assert set(report["chats"]) == {"stateless", "context", "session"}
    assert report["out_of_scope"]["recall"] > 0.9
    assert report["batch"]["prompts_per_second"] > 0
