"""Trains the delegator: LoRA deltas on the encoder and a linear head, then temperature and threshold.

    python -m router.train --data ../shared/data --encoder <folder> --out router/weights

Nothing of a held-out source is trained on; temperature and threshold are fitted there.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from router import lora, weights_file
from router.calibration import Floats, fit_temperature, fit_threshold, softmax
from router.dataset import Corpus, DatasetConfig, held_out_prompts, load_corpus, training_prompts
from router.intents import GENERAL, INTENTS
from router.item import Prompt, Role, Source
from router.metrics import measure
from router.model import IntentModel, collate, load_encoder, predict_logits
from router.sources import ALL_SOURCES
from router.tokenizing import Encoded, PromptTokenizer

Progress = Callable[[int, int, float], None]  # step, steps, loss of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The recipe. The defaults are what the committed weights were made with."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    seed: int = 20
    epochs: int = 1
    batch_size: int = 32
    max_tokens: int = 128
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
    # The threshold is the lowest above which this share of the decisions for a specialist is right on held-out
    # sources. Decisions for `general` do not count: a rejected one goes to the same place.
    precision: float = 0.95
    bfloat16: bool = True


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
    tokenizer = PromptTokenizer.from_folder(encoder, config.max_tokens)
    model = _fit(corpus, tokenizer, encoder, config, progress or (lambda step, steps, loss: None))
    tensors = lora.deltas(model.encoder)
    tensors["head.weight"] = (model.head.weight.detach() * config.head_scale).contiguous()
    tensors["head.bias"] = model.head.bias.detach().clone()
    report = _calibrate_and_save(corpus, tokenizer, encoder, out, config, tensors)
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
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


def _calibrate_and_save(
    corpus: Corpus,
    tokenizer: PromptTokenizer,
    encoder: Path,
    out: Path,
    config: TrainConfig,
    tensors: dict[str, torch.Tensor],
) -> dict[str, Any]:
    # Calibrated on the weights as they will be served: rounded to what is saved, and merged.
    model = IntentModel(load_encoder(encoder), len(INTENTS))
    lora.merge(model.encoder, tensors)
    model.head.load_state_dict({"weight": tensors["head.weight"], "bias": tensors["head.bias"]})
    model.eval()
    logits, labels, sources = _predict(
        model, tokenizer, held_out_prompts(corpus, config.dataset, Role.HELD_OUT)
    )
    weights = _source_weights(sources)
    temperature = fit_temperature(logits, labels, weights)
    probabilities = softmax(logits, temperature)
    predicted = probabilities.argmax(axis=1)
    to_specialist = predicted != INTENTS.index(GENERAL)
    threshold = fit_threshold(
        probabilities.max(axis=1)[to_specialist], (predicted == labels)[to_specialist], config.precision
    )
    report = {
        "config": asdict(config),
        "temperature": temperature,
        "threshold": threshold,
        "dropped_from_training": dict(corpus.dropped),
        "sources": {
            s.name: {
                "public_name": s.public_name,
                "intent": s.intent,
                "role": s.role,
                "items": len(corpus.items[s.name]),
            }
            for s in corpus.sources.values()
        },
        "held_out": measure(probabilities, labels.tolist(), sources, INTENTS, threshold),
    }
    held_out = report["held_out"]
    assert isinstance(held_out, dict)
    weights_file.save(
        out,
        weights_file.RouterMetadata(
            intents=INTENTS,
            temperature=temperature,
            threshold=threshold,
            max_tokens=config.max_tokens,
            seed=config.seed,
            encoder_sha256=weights_file.sha256_of(encoder / "model.safetensors"),
            measured={
                key: held_out[key]
                for key in ("prompts", "accuracy", "source_accuracy_mean", "macro_f1", "ece")
            },
        ),
        tensors,
    )
    return report


def _predict(
    model: IntentModel, tokenizer: PromptTokenizer, prompts: Sequence[Prompt]
) -> tuple[Floats, np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    logits = predict_logits(model, [tokenizer.encode(p.text, p.history) for p in prompts])
    labels = np.array([INTENTS.index(p.intent) for p in prompts], dtype=np.int64)
    return logits.double().numpy(), labels, [p.source for p in prompts]


def _source_weights(sources: Sequence[str]) -> Floats:
    counts = {name: sources.count(name) for name in set(sources)}
    return np.array([1 / counts[name] for name in sources])


def main() -> None:
    """The command line."""
    import argparse

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    parser = argparse.ArgumentParser(prog="python -m router.train", description="Train the delegator.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights"))
    parser.add_argument("--epochs", type=int, default=TrainConfig().epochs)
    parser.add_argument("--per-intent", type=int, default=DatasetConfig().per_intent)
    parser.add_argument("--seed", type=int, default=TrainConfig().seed)
    args = parser.parse_args()
    config = TrainConfig(
        epochs=args.epochs,
        seed=args.seed,
        dataset=DatasetConfig(seed=args.seed, per_intent=args.per_intent),
    )
    columns = (
        TextColumn("loss {task.fields[loss]:.3f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns) as bar:
        task = bar.add_task("training", total=None, loss=0.0)
        report = train_router(
            args.data,
            args.encoder,
            args.out,
            config,
            lambda step, steps, loss: bar.update(task, completed=step, total=steps, loss=loss),
        )
        bar.console.print_json(data=report["held_out"])


if __name__ == "__main__":
    main()
