"""Trains the delegator: several runs, averaged into one trained part, then what finishing.py fits.

    POLYMATH_DATA=../shared/data polymath train router --out router/weights

Averaging the weights of runs that began alike costs nothing to serve and generalizes better than either. Nothing of a
held-out source is trained on; what is fitted there is said in finishing.py. Each run is kept in `members/` of the output,
finished or as far as it came, so that an interrupted training goes on where it was.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from router import lora, weights_file
from router.dataset import DatasetConfig, load_corpus
from router.finishing import FinishConfig, finish_router
from router.fitting import UPPER_LAYERS, FitConfig, Member, Progress, fit_member
from router.item import Source
from router.quantized import RANGE_PREFIX
from router.sources import ALL_SOURCES
from router.tokenizing import PromptTokenizer

_REPORT = "report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The recipe of the committed weights."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    members: tuple[Member, ...] = (
        Member(seed=20, weight=0.6),
        Member(seed=21, targets=UPPER_LAYERS, weight=0.4),
    )
    finish: FinishConfig = field(default_factory=FinishConfig)


def train_router(
    data: Path,
    encoder: Path,
    out: Path,
    config: TrainConfig | None = None,
    progress: Progress | None = None,
    sources: Sequence[Source] = ALL_SOURCES,
) -> dict[str, Any]:
    """Trains, calibrates, writes the trained part and `report.json` to `out`; returns the report.

    Raises SourceFileError for a missing or malformed data file and DelegatorError for an unusable encoder.
    """
    config = config or TrainConfig()
    started = time.monotonic()
    corpus = load_corpus(data, sources)
    tokenizer = PromptTokenizer.from_folder(encoder, config.finish.max_tokens)
    report_step = progress or (lambda step, steps, loss: None)
    trained = []
    for number, member in enumerate(config.members):
        path = out / "members" / f"{_fingerprint(config, member)}.safetensors"
        if not path.is_file():

            def note(step: int, steps: int, loss: float, number: int = number) -> None:
                report_step(number * steps + step, len(config.members) * steps, loss)

            tensors = fit_member(
                corpus,
                tokenizer,
                encoder,
                config.dataset,
                config.fit,
                member,
                note,
                path.with_suffix(".checkpoint"),
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, path)
        trained.append(load_file(path))
    tensors = lora.average(trained, [member.weight for member in config.members], config.fit.rank)
    report = finish_router(corpus, encoder, out, config.finish, config.dataset, tensors)
    report = {"config": asdict(config), **report}
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    (out / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _fingerprint(config: TrainConfig, member: Member) -> str:
    """The same for runs that would train the same: all that matters but the member's weight and what is fitted after."""
    parts = [
        asdict(config.dataset),
        asdict(config.fit),
        member.seed,
        member.targets,
        config.finish.max_tokens,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def refinish_router(
    data: Path, encoder: Path, out: Path, config: TrainConfig, sources: Sequence[Source] = ALL_SOURCES
) -> dict[str, Any]:
    """Fits anew all but deltas and head of the trained part in `out`: ranges, temperature, thresholds, bank.

    Raises DelegatorError when there is none.
    """
    _, tensors = weights_file.load(out, encoder)
    trained: dict[str, torch.Tensor] = {
        name: tensor for name, tensor in tensors.items() if not name.startswith(RANGE_PREFIX)
    }
    corpus = load_corpus(data, sources)
    old = json.loads((out / _REPORT).read_text(encoding="utf-8")) if (out / _REPORT).is_file() else {}
    report = {**old, **finish_router(corpus, encoder, out, config.finish, config.dataset, trained)}
    (out / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report
