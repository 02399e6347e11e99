"""What adding an intent from few examples is worth: BANKING77 as `banking`, at several sizes, seeds and ways of fitting."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from router.added import COST_LIMIT
from router.calibration import Floats
from router.delegator import Delegator
from router.hot import Fit, fit_head, fit_prototype
from router.item import Prompt
from router.messages import Utterance
from router.sources.conversation import banking_texts

SIZES = (8, 16, 32, None)  # None is all
SEEDS = range(10)
_DESCRIPTION = "questions of a bank's customers about accounts, cards, transfers and fees"
# The fit, and whether its bias is lowered until the others lose no more than they may, as `add_intent` does.
_WAYS: dict[str, tuple[Fit, bool]] = {
    "served": (fit_head, True),
    "head": (fit_head, False),
    "prototype": (fit_prototype, False),
}
_TEST_PROMPTS = 1000


def study_banking(data: Path, delegator: Delegator, others: Sequence[Prompt]) -> dict[str, Any]:
    """Recall on BANKING77's test set, and points that `others` (held-out prompts of the trained intents) lose."""
    train = banking_texts(data, "train")
    test = random.Random("banking test").sample(banking_texts(data, "test"), _TEST_PROMPTS)
    vectors = {name: delegator.embed([Utterance(t, "") for t in texts]) for name, texts in
               {"train": train, "test": test, "others": [p.text for p in others]}.items()}  # fmt: skip
    labels = np.array([delegator.intents.index(p.intent) for p in others])
    report: dict[str, Any] = {"test_prompts": len(test), "other_prompts": len(others), "fits": {}}
    for name, way in _WAYS.items():
        report["fits"][name] = {
            "all" if size is None else str(size): _runs(delegator, way, size, train, vectors, labels)
            for size in SIZES
        }
    report["served"] = _served(delegator, train)
    return report


def _runs(
    delegator: Delegator,
    way: tuple[Fit, bool],
    size: int | None,
    texts: Sequence[str],
    vectors: dict[str, Floats],
    labels: Any,
) -> dict[str, float]:
    seeds = list(SEEDS) if size is not None else [0]
    runs = [_run(delegator, way, size, seed, texts, vectors, labels) for seed in seeds]
    recalls, costs, specialist_costs, milliseconds = zip(*runs, strict=True)
    return {
        "recall": float(np.mean(recalls)),
        "recall_least": float(np.min(recalls)),
        "cost_points": float(np.mean(costs)),
        "cost_points_most": float(np.max(costs)),
        "specialist_cost_points": float(np.mean(specialist_costs)),
        "fit_ms": float(np.median(milliseconds)),
        "seeds": len(seeds),
    }


def _run(
    delegator: Delegator,
    way: tuple[Fit, bool],
    size: int | None,
    seed: int,
    texts: Sequence[str],
    vectors: dict[str, Floats],
    labels: Any,
) -> tuple[float, float, float, float]:
    rows = random.Random(f"banking {seed}").sample(range(len(texts)), size or len(texts))
    before = delegator.known
    fit, is_spared = way
    started = time.perf_counter()
    after = before.with_intent("banking", _DESCRIPTION, [texts[r] for r in rows], vectors["train"][rows], fit)
    if is_spared:
        after = after.sparing(COST_LIMIT / 100)
    milliseconds = (time.perf_counter() - started) * 1000
    recall = (after.logits(vectors["test"]).argmax(axis=1) == len(after.names) - 1).mean()
    right_before = before.logits(vectors["others"]).argmax(axis=1) == labels
    right_after = after.logits(vectors["others"]).argmax(axis=1) == labels
    lost = right_before.astype(float) - right_after
    is_specialist = labels != before.trained.index("general")
    return float(recall), 100 * float(lost.mean()), 100 * float(lost[is_specialist].mean()), milliseconds


def _served(delegator: Delegator, texts: Sequence[str]) -> dict[str, Any]:
    """`add_intent` as it is served, from 16 and 32 texts: embedding, fitting and checking, in milliseconds."""
    result = {}
    for size in (16, 32):
        outcomes = []
        for seed in SEEDS:
            chosen = random.Random(f"banking {seed}").sample(texts, size)
            outcomes.append(delegator.add_intent("banking", _DESCRIPTION, chosen))
            delegator.remove_intent("banking")
        result[str(size)] = {
            "ms": float(np.median([outcome.ms for outcome in outcomes])),
            "accepted": float(np.mean([outcome.accepted for outcome in outcomes])),
            "cost_points_reported": float(np.mean([outcome.cost_points for outcome in outcomes])),
        }
    return result
