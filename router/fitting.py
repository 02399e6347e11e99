"""Fits deltas and head once: one member of the average that is served."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from router import lora
from router.dataset import Corpus, DatasetConfig, training_prompts
from router.intents import INTENTS
from router.item import Prompt
from router.model import IntentModel, collate, load_encoder
from router.tokenizing import Encoded, PromptTokenizer

Progress = Callable[[int, int, float], None]  # step, steps, loss of the step
_CHECKPOINT_STEPS = 100
_LINEARS = r"\.(attention\.self\.(query|value)|intermediate\.dense|output\.dense)$"
ALL_LAYERS = rf"layer\.[0-5]{_LINEARS}"
UPPER_LAYERS = rf"layer\.[2-5]{_LINEARS}"  # a third cheaper to train, for lack of a backward pass below them


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One run: what it draws and begins with, which layers it changes (a regex), its weight in the average."""

    seed: int
    targets: str = ALL_LAYERS
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """What all members share."""

    epochs: int = 1
    batch_size: int = 32
    rank: int = 16
    alpha: float = 32.0
    lora_rate: float = 1e-3
    head_rate: float = 2e-3
    warmup: float = 0.06  # share of the steps
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    head_scale: float = 16.0  # embeddings are unit vectors; the head starts from logits of this size
    bfloat16: bool = True


def fit_member(
    corpus: Corpus,
    tokenizer: PromptTokenizer,
    encoder: Path,
    dataset: DatasetConfig,
    config: FitConfig,
    member: Member,
    progress: Progress,
    checkpoint: Path,
) -> dict[str, torch.Tensor]:
    """Trains one member; its deltas and head, as they are saved. Raises DelegatorError for an unusable encoder.

    Goes on from the file `checkpoint` where there is one, exactly as if it had never stopped, and removes it at the end.
    """
    torch.manual_seed(member.seed)
    model = IntentModel(load_encoder(encoder), len(INTENTS))
    trained = lora.adapt(model.encoder, member.targets, config.rank, config.alpha / config.rank, member.seed)
    nn.init.normal_(model.head.weight, std=0.02)
    nn.init.zeros_(model.head.bias)
    optimizer = torch.optim.AdamW(
        [
            {"params": trained, "lr": config.lora_rate},
            {"params": model.head.parameters(), "lr": config.head_rate},
        ],
        weight_decay=config.weight_decay,
    )
    drawn = replace(dataset, seed=member.seed)
    epochs = [
        _batches(training_prompts(corpus, drawn, e), tokenizer, config, member.seed, e)
        for e in range(config.epochs)
    ]
    steps = sum(len(batches) for batches in epochs)
    warmup = max(1, int(steps * config.warmup))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
    )
    model.eval()  # no dropout: freshly laid out prompts regularize, and dropout is slow on a CPU
    state = {"head": model.head, "optimizer": optimizer, "schedule": schedule}
    done = _resume(checkpoint, trained, state)
    for step, (encoded, labels) in enumerate(itertools.chain(*epochs), start=1):
        if step <= done:
            continue
        loss = _step(model, encoded, labels, config)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        progress(step, steps, loss.item())
        if step % _CHECKPOINT_STEPS == 0:
            _save(checkpoint, step, trained, state)
    checkpoint.unlink(missing_ok=True)
    tensors = lora.deltas(model.encoder)
    tensors["head.weight"] = (model.head.weight.detach() * config.head_scale).contiguous()
    tensors["head.bias"] = model.head.bias.detach().clone()
    return tensors


def _save(checkpoint: Path, step: int, trained: Sequence[nn.Parameter], state: Mapping[str, Any]) -> None:
    content = {name: part.state_dict() for name, part in state.items()}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".part")
    torch.save({"step": step, "trained": [parameter.data for parameter in trained], **content}, unfinished)
    unfinished.replace(checkpoint)


def _resume(checkpoint: Path, trained: Sequence[nn.Parameter], state: Mapping[str, Any]) -> int:
    """The steps that are behind; what they made is put in place."""
    if not checkpoint.is_file():
        return 0
    content = torch.load(checkpoint, weights_only=True)
    for parameter, saved in zip(trained, content["trained"], strict=True):
        parameter.data.copy_(saved)
    for name, part in state.items():
        part.load_state_dict(content[name])
    return int(content["step"])


def _step(
    model: IntentModel, encoded: Sequence[Encoded], labels: Sequence[int], config: FitConfig
) -> torch.Tensor:
    ids, segments, mask = collate(encoded, multiple=8)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        embeddings = model.embed(ids, segments, mask)
    logits = model.head(embeddings.float() * config.head_scale)
    return functional.cross_entropy(logits, torch.tensor(labels), label_smoothing=config.label_smoothing)


def _batches(
    prompts: Sequence[Prompt], tokenizer: PromptTokenizer, config: FitConfig, seed: int, epoch: int
) -> list[tuple[list[Encoded], list[int]]]:
    """Batches of prompts of like length (padding is wasted time), in random order."""
    rng = random.Random(f"{seed} batches {epoch}")
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
