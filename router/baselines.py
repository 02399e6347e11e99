"""What the delegator has to beat.

A random intent, always the same intent, a list of keywords, and a probe on the frozen encoder.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from router.calibration import Floats
from router.intents import GENERAL, INTENTS
from router.item import Prompt
from router.model import IntentModel, collate
from router.sources.spanish import is_spanish
from router.tokenizing import PromptTokenizer

# In order of precedence; the first that matches decides.
_KEYWORDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "code",
        re.compile(r"```|\bdef |\bfunction\b|\bpython\b|\bjava|\bcode\b|c\+\+|\bsql\b|\bprogram\b", re.I),
    ),
    (
        "finance",
        re.compile(
            r"\brevenue|\bstock|\bgold\b|\bshares?\b|\bfiscal\b|net income|\bin millions|\bdebt\b", re.I
        ),
    ),
    (
        "math",
        re.compile(
            r"\$.*\$|\\frac|\bhow (many|much)\b.*\d|\d.*\bhow (many|much)\b|[=+*/]\s*\d|\bsolve\b",
            re.I | re.S,
        ),
    ),
    ("commonsense", re.compile(r"\([A-E]\)|^[A-E][).:]|\boption|\bmost likely\b|_", re.I | re.M)),
    ("knowledge", re.compile(r"^\W*(who|when|where|which|what (year|is the|was the))\b", re.I)),
)


def random_guess(prompts: Sequence[Prompt]) -> Floats:
    """One intent drawn for each prompt, all alike; the same draws in every run. [prompts, intents]."""
    rng = random.Random("random guess")
    return _one_hot([rng.choice(INTENTS) for _ in prompts])


def majority(training: Sequence[Prompt], prompts: Sequence[Prompt]) -> Floats:
    """Always the training prompts' most frequent intent (the first of equals). [prompts, intents]."""
    intent = Counter(p.intent for p in training).most_common(1)[0][0]
    return _one_hot([intent] * len(prompts))


def keyword(prompts: Sequence[Prompt]) -> Floats:
    """The first intent whose pattern occurs; `general` when none does. [prompts, intents]."""
    return _one_hot([_by_keyword(p.text) for p in prompts])


def _by_keyword(text: str) -> str:
    if is_spanish(text):
        return "spanish"
    return next((intent for intent, pattern in _KEYWORDS if pattern.search(text)), GENERAL)


def frozen_probe(
    model: IntentModel, tokenizer: PromptTokenizer, training: Sequence[Prompt], prompts: Sequence[Prompt]
) -> Floats:
    """Multinomial logistic regression on the plain encoder's embeddings. [prompts, intents]."""
    probe = LogisticRegression(C=10.0, max_iter=400)
    probe.fit(embeddings(model, tokenizer, training), [INTENTS.index(p.intent) for p in training])
    probabilities = np.zeros((len(prompts), len(INTENTS)))
    probabilities[:, probe.classes_] = probe.predict_proba(embeddings(model, tokenizer, prompts))
    return probabilities


@torch.inference_mode()
def embeddings(model: IntentModel, tokenizer: PromptTokenizer, prompts: Sequence[Prompt]) -> Floats:
    """Unit embeddings, [prompts, hidden], in order; batched by length."""
    encoded = [tokenizer.encode(p.text, p.history) for p in prompts]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    rows = np.zeros((len(encoded), model.head.in_features))
    with torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            rows[batch] = model.embed(*collate([encoded[i] for i in batch])).double().numpy()
    return rows


def _one_hot(intents: Sequence[str]) -> Floats:
    return np.eye(len(INTENTS))[[INTENTS.index(intent) for intent in intents]]
