"""Measures the delegator as it is served, on what it never saw, beside its baselines; returns one JSON-ready report.

    POLYMATH_DATA=../shared/data polymath evaluate router

`held_out` are the sources temperature and thresholds were fitted on; `eval` rows were neither trained nor tuned on.
"""

import platform
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from router.baselines import frozen_probe, keyword, majority, random_guess
from router.calibration import Floats, reliability
from router.chats import build_chats, measure_chats
from router.dataset import Corpus, DatasetConfig, held_out_prompts, load_corpus, training_prompts
from router.decision import RoutingOptions
from router.delegator import WEIGHTS, Delegator
from router.hot_study import study_banking
from router.intents import GENERAL, INTENTS
from router.item import Prompt, Role, Source
from router.messages import Utterance
from router.metrics import measure
from router.model import IntentModel, load_encoder
from router.scope import scope_report
from router.sources import ALL_SOURCES
from router.stress import STRESSES, stressed
from router.tokenizing import PromptTokenizer

_LATENCY_TOKENS = (16, 64, 128, 256, 20_000)
_LATENCY_RUNS = 100
_STRESSED_PROMPTS = 1000
_PROBE_PROMPTS_PER_INTENT = 1000  # the probe is no better with more
_CHATS = 200
_BANKING = "banking77"


def evaluate_router(
    data: Path,
    encoder: Path,
    weights: Path = WEIGHTS,
    config: DatasetConfig | None = None,
    baselines: bool = True,
    sources: Sequence[Source] = ALL_SOURCES,
) -> dict[str, Any]:
    """The whole report. Raises SourceFileError and DelegatorError as loading does."""
    config = config or DatasetConfig()
    delegator = Delegator.from_folder(encoder, weights)
    corpus = load_corpus(data, sources)
    held_out = held_out_prompts(corpus, config, Role.HELD_OUT)
    found = probabilities(delegator, held_out)
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
        "weights": delegator.metadata.measured,
        "temperature": delegator.metadata.temperature,
        "policy": asdict(delegator.policy),
        "sources": {s.name: {"public_name": s.public_name, "intent": s.intent} for s in sources},
        "held_out": _measured(delegator, found, held_out),
        "reliability": reliability(found, np.array(_labels(held_out))),
        "mistakes": _mistakes(found, held_out),
        "eval": _evaluation(delegator, corpus, config),
        "out_of_scope": _scope(delegator, corpus, config, held_out, found),
        "stress": _stress(delegator, held_out, config.seed),
        "chats": measure_chats(build_chats(corpus, Role.HELD_OUT, _CHATS, config.seed), delegator),
        "latency_ms": latency(delegator),
        "batch": throughput(delegator, held_out),
    }
    if _BANKING in corpus.sources:
        others = [p for p in held_out if p.source != _BANKING]
        report["banking"] = study_banking(data, delegator, others)
    if baselines:
        few = replace(config, per_intent=min(config.per_intent, _PROBE_PROMPTS_PER_INTENT))
        training = training_prompts(corpus, few, epoch=0)
        report["baselines"] = _baselines(encoder, delegator.metadata.max_tokens, training, held_out)
    return report


def probabilities(delegator: Delegator, prompts: Sequence[Prompt]) -> Floats:
    """Calibrated probabilities of the served model, [prompts, intents]."""
    vectors = delegator.embed([Utterance(p.text, p.history) for p in prompts])
    return delegator.known.probabilities(vectors)


def _labels(prompts: Sequence[Prompt]) -> list[int]:
    return [INTENTS.index(p.intent) for p in prompts]


def _measured(delegator: Delegator, found: Floats, prompts: Sequence[Prompt]) -> dict[str, Any]:
    sources = [p.source for p in prompts]
    return measure(found, _labels(prompts), sources, INTENTS, delegator.threshold)


def _evaluation(delegator: Delegator, corpus: Corpus, config: DatasetConfig) -> dict[str, Any]:
    prompts = held_out_prompts(corpus, config, Role.EVAL)
    return _measured(delegator, probabilities(delegator, prompts), prompts)


def _mistakes(found: Floats, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """How often each source's prompts went where, most frequent first."""
    counts: dict[tuple[str, str, str], int] = {}
    for prompt, predicted in zip(prompts, found.argmax(axis=1), strict=True):
        key = (prompt.source, prompt.intent, INTENTS[predicted])
        if key[1] != key[2]:
            counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [{"source": s, "intent": i, "routed_to": r, "prompts": n} for (s, i, r), n in ordered]


def _scope(
    delegator: Delegator, corpus: Corpus, config: DatasetConfig, held_out: Sequence[Prompt], found: Floats
) -> dict[str, Any]:
    """Held-out prompts of the specialists against the out-of-scope sources and the general held-out ones."""
    whole = replace(config, per_source=10_000)
    outside = held_out_prompts(corpus, whole, Role.OUT_OF_SCOPE)
    outside += [p for p in held_out if p.intent == GENERAL]
    if not outside:
        return {}
    is_inside = np.array([p.intent != GENERAL for p in held_out])
    general = INTENTS.index(GENERAL)
    names = [p.source for p in outside]
    return scope_report(found[is_inside], probabilities(delegator, outside), names, general)


def _stress(delegator: Delegator, prompts: Sequence[Prompt], seed: int) -> dict[str, float]:
    prompts = random.Random(seed).sample(prompts, min(_STRESSED_PROMPTS, len(prompts)))
    accuracies = {"none": _accuracy(delegator, prompts)}
    for name in STRESSES:
        accuracies[name] = _accuracy(delegator, stressed(prompts, name, seed))
    return accuracies


def _accuracy(delegator: Delegator, prompts: Sequence[Prompt]) -> float:
    return float((probabilities(delegator, prompts).argmax(axis=1) == np.array(_labels(prompts))).mean())


def _baselines(
    encoder: Path, max_tokens: int, training: Sequence[Prompt], prompts: Sequence[Prompt]
) -> dict[str, Any]:
    plain = IntentModel(load_encoder(encoder), len(INTENTS)).eval()
    tokenizer = PromptTokenizer.from_folder(encoder, max_tokens)
    distributions = {
        "random": random_guess(prompts),
        "majority": majority(training, prompts),
        "keyword": keyword(prompts),
        "frozen_probe": frozen_probe(plain, tokenizer, training, prompts),
    }
    sources = [p.source for p in prompts]
    return {name: measure(d, _labels(prompts), sources, INTENTS, 0.0) for name, d in distributions.items()}


def latency(delegator: Delegator) -> dict[str, dict[str, float]]:
    """p50 and p95 of one decision in milliseconds, by (about) the number of tokens of the prompt.

    `cpu_p50` is the thread's processor time, which waiting for a core does not count to.
    """
    forgetful = RoutingOptions(remember=False)
    result = {}
    for tokens in _LATENCY_TOKENS:
        text = "the cat sat on a mat and " * (tokens // 7 + 1)
        text = " ".join(text.split()[: tokens - 2])
        for _ in range(5):
            delegator.route_text(text, forgetful)
        times, processor = [], []
        for _ in range(_LATENCY_RUNS):
            started, busy = time.perf_counter(), time.thread_time()
            delegator.route_text(text, forgetful)
            times.append((time.perf_counter() - started) * 1000)
            processor.append((time.thread_time() - busy) * 1000)
        p50, p95 = np.percentile(times, (50, 95))
        result[str(tokens)] = {"p50": float(p50), "p95": float(p95), "cpu_p50": float(np.median(processor))}
    return result


def throughput(delegator: Delegator, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Prompts a second of `route_many` on real prompts."""
    conversations = [[{"role": "user", "content": p.text}] for p in prompts]
    started = time.perf_counter()
    delegator.route_many(conversations, RoutingOptions(remember=False))
    seconds = time.perf_counter() - started
    return {"prompts": len(prompts), "prompts_per_second": len(prompts) / seconds}
