"""From trained deltas and head to what is served: 8-bit ranges, temperature, thresholds, session margin, bank.

Everything is fitted on the encoder as it will be served. Temperature and thresholds come from held-out sources; ranges, the
session's margin and the bank's fitting rows from training sources.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from router import lora, weights_file
from router.bank import Bank, save_bank
from router.calibration import (
    Floats,
    Ints,
    expected_calibration_error,
    fit_temperature,
    fit_threshold,
    softmax,
)
from router.chats import build_chats, fit_switch
from router.classifier import Classifier
from router.dataset import Corpus, DatasetConfig, held_out_prompts, training_prompts
from router.delegator import Delegator
from router.intent_set import IntentSet
from router.intents import GENERAL, INTENTS
from router.item import Prompt, Role
from router.messages import Utterance
from router.metrics import measure
from router.model import collate, load_encoder
from router.policy import Policy
from router.quantized import input_ranges
from router.session import SessionStore
from router.tokenizing import PromptTokenizer

# The bank must not hold the set on which adding an intent is measured.
NOT_IN_THE_BANK = frozenset({"banking77"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishConfig:
    """How a trained router is made ready to serve."""

    max_tokens: int = 128
    # A threshold is the lowest above which this share of the decisions for its intent is right on held-out sources.
    precision: float = 0.95
    least_threshold: float = 0.35
    greatest_threshold: float = 0.8
    margin: float = 0.1
    range_prompts: int = 100  # of each intent, to find the 8-bit ranges
    bank_rows: int = 60  # of each specialist's intent
    bank_general_rows: int = (
        480  # of general, which is all the rest and what a new intent is mostly cut out of
    )
    bank_examples: int = 20  # of each intent, from our own templates, with their text
    bank_check_rows: int = 40  # of each held-out source
    fitted_chats: int = 120


def finish_router(
    corpus: Corpus,
    encoder: Path,
    out: Path,
    config: FinishConfig,
    dataset: DatasetConfig,
    tensors: dict[str, torch.Tensor],
) -> dict[str, Any]:
    """Writes the trained part and its bank to `out`; returns the report. `tensors` are deltas and head."""
    tensors = {**tensors, **_ranges(corpus, encoder, config, dataset, tensors)}
    classifier = Classifier.load(encoder, tensors, config.max_tokens, out)
    held_out = held_out_prompts(corpus, dataset, Role.HELD_OUT)
    vectors = classifier.embed([Utterance(p.text, p.history) for p in held_out])
    weight, bias = tensors["head.weight"].double().numpy(), tensors["head.bias"].double().numpy()
    logits = vectors[:, : weight.shape[1]] @ weight.T + bias
    labels = np.array([INTENTS.index(p.intent) for p in held_out], dtype=np.int64)
    sources = [p.source for p in held_out]
    temperature = fit_temperature(logits, labels, _source_weights(sources))
    probabilities = softmax(logits, temperature)
    policy = _policy(probabilities, labels, config)
    intents = IntentSet(trained=INTENTS, weight=weight, bias=bias, temperature=temperature)
    measured = measure(probabilities, labels.tolist(), sources, INTENTS, policy.threshold)
    measured["ece_cross_fitted"] = _cross_fitted_error(logits, labels, sources)
    metadata = weights_file.RouterMetadata(
        intents=INTENTS,
        temperature=temperature,
        policy=policy,
        max_tokens=config.max_tokens,
        seed=dataset.seed,
        encoder_sha256=weights_file.sha256_of(encoder / "model.safetensors"),
        measured={key: measured[key] for key in _SUMMARY},
    )
    chats = build_chats(corpus, Role.TRAIN, config.fitted_chats, dataset.seed)

    def with_switch(switch: float) -> Delegator:
        return Delegator(classifier, intents, replace(policy, switch=switch), metadata, SessionStore())

    switch, tried = fit_switch(chats, with_switch)
    metadata = replace(metadata, policy=replace(policy, switch=switch))
    weights_file.save(out, metadata, tensors)
    bank = build_bank(corpus, config, dataset, classifier)
    save_bank(out, bank, weights_file.sha256_of(out / weights_file.TENSORS))
    return {
        "temperature": temperature,
        "thresholds": {"all": policy.threshold, **policy.by_intent},
        "switch": {"fitted": switch, "tried_on_training_chats": tried},
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
        "held_out": measured,
    }


_SUMMARY = ("prompts", "accuracy", "source_accuracy_mean", "macro_f1", "ece", "ece_cross_fitted")


def _ranges(
    corpus: Corpus,
    encoder: Path,
    config: FinishConfig,
    dataset: DatasetConfig,
    tensors: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    merged = load_encoder(encoder)
    lora.merge(merged, tensors)
    tokenizer = PromptTokenizer.from_folder(encoder, config.max_tokens)
    few = replace(dataset, per_intent=config.range_prompts)
    prompts = training_prompts(corpus, few, epoch=-1)
    return input_ranges(merged, [collate([tokenizer.encode(p.text, p.history)]) for p in prompts])


def _policy(probabilities: Floats, labels: Ints, config: FinishConfig) -> Policy:
    """Thresholds of the specialists' intents; a rejected decision for `general` would go to the same place."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = predicted == labels
    to_specialist = predicted != INTENTS.index(GENERAL)
    by_intent = {}
    for index, intent in enumerate(INTENTS):
        chosen = predicted == index
        if intent != GENERAL and chosen.any():
            fitted = fit_threshold(confidence[chosen], right[chosen], config.precision)
            by_intent[intent] = min(max(fitted, config.least_threshold), config.greatest_threshold)
    threshold = fit_threshold(confidence[to_specialist], right[to_specialist], config.precision)
    return Policy(
        threshold=min(max(threshold, config.least_threshold), config.greatest_threshold),
        by_intent=by_intent,
        margin=config.margin,
    )


def _cross_fitted_error(logits: Floats, labels: Ints, sources: Sequence[str]) -> float:
    """The calibration error with each source's temperature fitted on the other half of the sources."""
    names = list(dict.fromkeys(sources))
    confidences = np.zeros(len(labels))
    half = np.array([names.index(source) % 2 for source in sources])
    for part in (0, 1):
        inside = half == part
        if not inside.any() or inside.all():
            return float("nan")
        others = np.flatnonzero(~inside)
        weights = _source_weights([sources[int(i)] for i in others])
        temperature = fit_temperature(logits[others], labels[others], weights)
        confidences[inside] = softmax(logits[inside], temperature).max(axis=1)
    return expected_calibration_error(confidences, logits.argmax(axis=1) == labels)


def _source_weights(sources: Sequence[str]) -> Floats:
    counts = {name: sources.count(name) for name in set(sources)}
    return np.array([1 / counts[name] for name in sources])


def build_bank(corpus: Corpus, config: FinishConfig, dataset: DatasetConfig, classifier: Classifier) -> Bank:
    """Training rows to fit on, held-out rows to check on, and templates to show, as the served encoder sees them."""
    rng = random.Random(f"{dataset.seed} bank")
    enough = replace(dataset, per_intent=max(config.bank_rows, config.bank_general_rows))
    left = {**dict.fromkeys(INTENTS, config.bank_rows), GENERAL: config.bank_general_rows}
    fitted: list[Prompt] = []
    for prompt in training_prompts(corpus, enough, epoch=-2):
        if left[prompt.intent] > 0:
            left[prompt.intent] -= 1
            fitted.append(prompt)
    shown: list[Prompt] = []
    for source in corpus.of_role(Role.TRAIN):
        if source.name.startswith("composed_"):
            items = [item for item in corpus.items[source.name] if len(item.text) < 160]
            shown += [
                Prompt(text=item.text, intent=source.intent, source=source.name)
                for item in rng.sample(items, min(config.bank_examples, len(items)))
            ]
    each = replace(dataset, per_source=config.bank_check_rows)
    checked = [p for p in held_out_prompts(corpus, each, Role.HELD_OUT) if p.source not in NOT_IN_THE_BANK]
    prompts = [*fitted, *shown, *checked]
    return Bank(
        vectors=classifier.embed([Utterance(p.text, p.history) for p in prompts]),
        labels=np.array([INTENTS.index(p.intent) for p in prompts], dtype=np.int64),
        is_check=np.arange(len(prompts)) >= len(fitted) + len(shown),
        texts=tuple("" if i < len(fitted) else p.text for i, p in enumerate((*fitted, *shown)))
        + ("",) * len(checked),
    )
