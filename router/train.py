"""Trains the delegator: LoRA deltas on the encoder and a linear head, then temperature and threshold.

    POLYMATH_DATA=../shared/data polymath train router --out router/weights

Nothing of a held-out source is trained on; what is fitted there is said in finishing.py.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from router import lora, weights_file
from router.dataset import Corpus, DatasetConfig, load_corpus, training_prompts
from router.finishing import FinishConfig, finish_router
from router.intents import INTENTS
from router.item import Prompt, Source
from router.model import IntentModel, collate, load_encoder
from router.quantized import RANGE_PREFIX
from router.sources import ALL_SOURCES
from router.tokenizing import Encoded, PromptTokenizer

_REPORT = "report.json"
Progress = Callable[[int, int, float], None]  # step, steps, loss of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The recipe. The defaults are what the committed weights were made with."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    seed: int = 20
    epochs: int = 1
    batch_size: int = 32
    # The upper four of six layers: a third cheaper to train, for lack of a backward pass below them.
    targets: str = r"layer\.[0-5]\.(attention\.self\.(query|value)|intermediate\.dense|output\.dense)$"
    rank: int = 16
    alpha: float = 32.0
    lora_rate: float = 1e-3
    head_rate: float = 2e-3
    warmup: float = 0.06  # share of the steps
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    head_scale: float = 16.0  # embeddings are unit vectors; the head starts from logits of this size
    bfloat16: bool = True
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
    model = _fit(corpus, tokenizer, encoder, config, progress or (lambda step, steps, loss: None))
    tensors = lora.deltas(model.encoder)
    tensors["head.weight"] = (model.head.weight.detach() * config.head_scale).contiguous()
    tensors["head.bias"] = model.head.bias.detach().clone()
    report = finish_router(corpus, encoder, out, config.finish, config.dataset, tensors)
    report = {"config": asdict(config), **report}
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    (out / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def refinish_router(
    data: Path, encoder: Path, out: Path, config: TrainConfig, sources: Sequence[Source] = ALL_SOURCES
) -> dict[str, Any]:
    """Fits anew all but deltas and head of the trained part in `out`: ranges, temperature, thresholds, bank.

    Raises DelegatorError when there is none.
    """
    _, tensors = weights_file.load(out, encoder)
    trained = {name: tensor for name, tensor in tensors.items() if not name.startswith(RANGE_PREFIX)}
    corpus = load_corpus(data, sources)
    old = json.loads((out / _REPORT).read_text(encoding="utf-8")) if (out / _REPORT).is_file() else {}
    report = {**old, **finish_router(corpus, encoder, out, config.finish, config.dataset, trained)}
    (out / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _fit(
    corpus: Corpus, tokenizer: PromptTokenizer, encoder: Path, config: TrainConfig, progress: Progress
) -> IntentModel:
    torch.manual_seed(config.seed)
    model = IntentModel(load_encoder(encoder), len(INTENTS))
    trained = lora.adapt(model.encoder, config.targets, config.rank, config.alpha / config.rank, config.seed)
    nn.init.normal_(model.head.weight, std=0.02)
    nn.init.zeros_(model.head.bias)
    optimizer = torch.optim.AdamW(
        [
            {"params": trained, "lr": config.lora_rate},
            {"params": model.head.parameters(), "lr": config.head_rate},
        ],
        weight_decay=config.weight_decay,
    )
    epochs = [
        _batches(training_prompts(corpus, config.dataset, e), tokenizer, config, e)
        for e in range(config.epochs)
    ]
    steps = sum(len(batches) for batches in epochs)
    warmup = max(1, int(steps * config.warmup))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
    )
    model.eval()  # no dropout: freshly laid out prompts regularize, and dropout is slow on a CPU
    step = 0
    for batches in epochs:
        for encoded, labels in batches:
            loss = _step(model, encoded, labels, config)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            progress(step, steps, loss.item())
    return model.eval()


def _step(
    model: IntentModel, encoded: Sequence[Encoded], labels: Sequence[int], config: TrainConfig
) -> torch.Tensor:
    ids, segments, mask = collate(encoded, multiple=8)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        embeddings = model.embed(ids, segments, mask)
    logits = model.head(embeddings.float() * config.head_scale)
    return functional.cross_entropy(logits, torch.tensor(labels), label_smoothing=config.label_smoothing)


def _batches(
    prompts: Sequence[Prompt], tokenizer: PromptTokenizer, config: TrainConfig, epoch: int
) -> list[tuple[list[Encoded], list[int]]]:
    """Batches of prompts of like length (padding is wasted time), in random order."""
    rng = random.Random(f"{config.seed} batches {epoch}")
    rows = [(tokenizer.encode(p.text, p.history), INTENTS.index(p.intent)) for p in prompts]
    batches = []
    pool = config.batch_size * 24
    for start in range(0, len(rows), pool):
        chunk = sorted(rows[start : start + pool], key=lambda row: len(row[0].ids))
        for at in range(0, len(chunk), config.batch_size):
            batch = chunk[at : at + config.batch_size]
            batches.append(([encoded for encoded, _ in batch], [label for _, label in batch]))
    rng.shuffle(batches)
    return batches
