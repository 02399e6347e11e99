"""Small changes that keep a prompt's meaning: how many decisions does each one turn?

Kinds as in the papers on prompt robustness: typos, case, paraphrase by rules, phrases before and after, and length.
The phrases here are not among the layouts of training.
"""

import random
import re
from collections.abc import Callable, Sequence

from router.item import Prompt
from router.noise import PERTURBATIONS

_PREFIXES = (
    "Good afternoon! ",
    "Excuse me, one thing: ",
    "I've got this one here:\n",
    "URGENT!!! ",
    "From: me\nTo: you\n\n",
    "Consider the following carefully and respond as well as you can. ",
    "[INST] ",
    "You're a knowledgeable and truthful AI model.\n\n",
    "As discussed earlier, ",
    "My boss wants this today. ",
)
_SUFFIXES = (
    " Cheers.",
    " I'd appreciate it a lot!",
    "\n\nDo not apologize.",
    " [/INST]",
    "\nSent from my tablet",
    " Your response should be complete.",
)
_PADDING = (
    "We talked about many things last week, and most of them have been settled by now. ",
    "The office will be painted in spring, so people move from one floor to the other. ",
    "I had trouble sleeping and went for a walk before sunrise. ",
    "Nothing of this matters for what comes next. ",
)
# Rule-made paraphrases: what people say instead, word for word.
_SYNONYMS: tuple[tuple[str, str], ...] = (
    (r"\bwhat is\b", "what's"),
    (r"\bwhat's\b", "what would be"),
    (r"\bhow many\b", "what number of"),
    (r"\bhow much\b", "what amount of"),
    (r"\bwrite\b", "please produce"),
    (r"\bcreate\b", "come up with"),
    (r"\bfind\b", "work out"),
    (r"\bcan you\b", "would you be able to"),
    (r"\bhow do i\b", "what's the way to"),
    (r"\bwhich\b", "what"),
    (r"\bwho\b", "which person"),
    (r"\bwhere\b", "in what place"),
    (r"\bwhen\b", "at what time"),
    (r"\bwhy\b", "for what reason"),
    (r"\bi want to\b", "i would like to"),
    (r"\bi am\b", "i'm"),
    (r"\bdo not\b", "don't"),
    (r"\bdoes not\b", "doesn't"),
    (r"\bgive\b", "provide"),
    (r"\bexplain\b", "tell me about"),
    (r"\bcalculate\b", "determine"),
    (r"\bcuál es\b", "cuál sería"),
    (r"\bpor qué\b", "por qué razón"),
    (r"\bquién\b", "qué persona"),
)


def _paraphrase(text: str, rng: random.Random) -> str:
    """Every rule that fits, each with an even chance; at least one when any fits."""
    fitting = [rule for rule in _SYNONYMS if re.search(rule[0], text, re.IGNORECASE)]
    chosen = [rule for rule in fitting if rng.random() < 0.5] or fitting[:1]
    for pattern, replacement in chosen:
        text = re.sub(pattern, replacement, text, count=1, flags=re.IGNORECASE)
    return text


def _prefix(text: str, rng: random.Random) -> str:
    return rng.choice(_PREFIXES) + text


def _suffix(text: str, rng: random.Random) -> str:
    return text + rng.choice(_SUFFIXES)


def _longer(text: str, rng: random.Random) -> str:
    return "".join(rng.sample(_PADDING, 2)) + "\n\n" + text


def _shorter(text: str, rng: random.Random) -> str:
    """Without its first sentence, where three or more would leave two."""
    del rng
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return " ".join(sentences[1:]) if len(sentences) > 2 else text


STRESSES: dict[str, Callable[[str, random.Random], str]] = {
    "typos": PERTURBATIONS["typos"],
    "lower case": PERTURBATIONS["lower"],
    "upper case": PERTURBATIONS["upper"],
    "no punctuation": PERTURBATIONS["no_punctuation"],
    "blank space": PERTURBATIONS["blank_space"],
    "one line": PERTURBATIONS["one_line"],
    "unaccented": PERTURBATIONS["unaccented"],
    "paraphrase": _paraphrase,
    "prefix": _prefix,
    "suffix": _suffix,
    "longer": _longer,
    "shorter": _shorter,
}


def stressed(prompts: Sequence[Prompt], name: str, seed: int) -> list[Prompt]:
    """The prompts under one kind of change, the same for the same seed."""
    rng = random.Random(f"{seed} {name}")
    change = STRESSES[name]
    return [
        Prompt(text=change(p.text, rng) or p.text, intent=p.intent, source=p.source, history=p.history)
        for p in prompts
    ]
