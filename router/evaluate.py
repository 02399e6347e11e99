"""Measures the delegator on whole sources it never saw, beside its baselines, and writes one JSON.

    python -m router.evaluate --data ../shared/data --encoder <folder> --out docs/router.json

`held_out` are the sources temperature and threshold were fitted on; `eval` rows were neither trained nor
tuned on.
"""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from router.baselines import frozen_probe, keyword, majority
from router.calibration import Floats, softmax
from router.dataset import DatasetConfig, held_out_prompts, load_corpus, training_prompts
from router.delegator import WEIGHTS, Delegator
from router.intents import INTENTS
from router.item import Prompt, Role, Source
from router.messages import Utterance
from router.metrics import measure
from router.model import IntentModel, load_encoder
from router.noise import PERTURBATIONS
from router.sources import ALL_SOURCES
from router.tokenizing import PromptTokenizer

_LATENCY_TOKENS = (16, 64, 128, 256, 20_000)
_LATENCY_RUNS = 40
_PERTURBED_PROMPTS = 600
_PROBE_PROMPTS_PER_INTENT = 1000  # the probe is no better with more


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
    evaluation = held_out_prompts(corpus, config, Role.EVAL)
    report: dict[str, Any] = {
        "weights": delegator.metadata.measured,
        "temperature": delegator.metadata.temperature,
        "threshold": delegator.threshold,
        "held_out": _measured(delegator, held_out),
        "eval": _measured(delegator, evaluation),
        "perturbed_accuracy": _perturbed(delegator, held_out, config.seed),
        "latency_ms": latency(delegator),
    }
    if baselines:
        few = replace(config, per_intent=min(config.per_intent, _PROBE_PROMPTS_PER_INTENT))
        training = training_prompts(corpus, few, epoch=0)
        report["baselines"] = _baselines(encoder, delegator.metadata.max_tokens, training, held_out)
    return report


def probabilities(delegator: Delegator, prompts: Sequence[Prompt]) -> Floats:
    """Calibrated probabilities of the served model, [prompts, intents]; batched, which serving is not."""
    logits = delegator.logits([Utterance(p.text, p.history) for p in prompts])
    return softmax(logits, delegator.metadata.temperature)


def _labels(prompts: Sequence[Prompt]) -> list[int]:
    return [INTENTS.index(p.intent) for p in prompts]


def _measured(delegator: Delegator, prompts: Sequence[Prompt]) -> dict[str, Any]:
    sources = [p.source for p in prompts]
    return measure(probabilities(delegator, prompts), _labels(prompts), sources, INTENTS, delegator.threshold)


def _perturbed(delegator: Delegator, prompts: Sequence[Prompt], seed: int) -> dict[str, float]:
    prompts = random.Random(seed).sample(prompts, min(_PERTURBED_PROMPTS, len(prompts)))
    accuracies = {"none": _accuracy(delegator, prompts)}
    for name, perturbation in PERTURBATIONS.items():
        rng = random.Random(f"{seed} {name}")
        changed = [
            Prompt(text=perturbation(p.text, rng) or p.text, intent=p.intent, source=p.source)
            for p in prompts
        ]
        accuracies[name] = _accuracy(delegator, changed)
    return accuracies


def _accuracy(delegator: Delegator, prompts: Sequence[Prompt]) -> float:
    return float((probabilities(delegator, prompts).argmax(axis=1) == np.array(_labels(prompts))).mean())


def _baselines(
    encoder: Path, max_tokens: int, training: Sequence[Prompt], prompts: Sequence[Prompt]
) -> dict[str, Any]:
    plain = IntentModel(load_encoder(encoder), len(INTENTS)).eval()
    tokenizer = PromptTokenizer.from_folder(encoder, max_tokens)
    distributions = {
        "majority": majority(training, prompts),
        "keyword": keyword(prompts),
        "frozen_probe": frozen_probe(plain, tokenizer, training, prompts),
    }
    sources = [p.source for p in prompts]
    return {name: measure(d, _labels(prompts), sources, INTENTS, 0.0) for name, d in distributions.items()}


def latency(delegator: Delegator) -> dict[str, dict[str, float]]:
    """p50 and p95 of `route_text` in milliseconds, by (about) the number of tokens of the prompt."""
    result = {}
    for tokens in _LATENCY_TOKENS:
        text = "the cat sat on a mat and " * (tokens // 7 + 1)
        times = []
        for _ in range(_LATENCY_RUNS):
            started = time.perf_counter()
            delegator.route_text(text)
            times.append((time.perf_counter() - started) * 1000)
        result[str(tokens)] = {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}
    return result


def main() -> None:
    """The command line."""
    import argparse

    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m router.evaluate", description="Measure the delegator.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=Path("docs/router.json"))
    parser.add_argument(
        "--no-baselines", action="store_true", help="skip the frozen probe, which takes a while"
    )
    args = parser.parse_args()
    report = evaluate_router(args.data, args.encoder, args.weights, baselines=not args.no_baselines)
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console = Console()
    for part in ("held_out", "eval"):
        summary = {
            key: report[part][key]
            for key in ("prompts", "accuracy", "source_accuracy_mean", "macro_f1", "ece")
        }
        console.print(part, summary)
    console.print("latency", report["latency_ms"])


if __name__ == "__main__":
    main()
