"""TAT-QA's public metric: exact match and F1 of answers with a scale (thousand, million, billion, percent).

A number counts with its scale, rounded to two decimals before it: `17.7 percent`, `17.7%` and a bare `0.177` are
the same. Several answers are sorted and compared as one text, F1 over its set of words; for arithmetic and
counting F1 is the exact match. Follows `tatqa_metric.py` of NExTplusplus/TAT-QA; docs/evaluation.md says how that was
checked.
"""

import re
import string
from dataclasses import dataclass

SCALES = ("thousand", "million", "billion", "percent")

_FACTORS = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "percent": 0.01}
_NUMBER = re.compile(r"(?P<digits>[+-]?\d+(?:\.\d+)?)|[+-]?\.\d+")
_NOT_IN_NUMBERS = str.maketrans("", "", "'\"\\$€£¥%(),[]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@dataclass(frozen=True, slots=True)
class ScaledAnswer:
    """One or several answers with the scale they share, "" for none."""

    texts: tuple[str, ...]
    scale: str = ""


def score_answer(predicted: ScaledAnswer, gold: ScaledAnswer, *, is_computed: bool) -> tuple[bool, float]:
    """Exact match and F1. `is_computed`: the answer is calculated or counted, and nearly right is wrong."""
    if not predicted.texts or not gold.texts:
        return False, 0.0
    wanted = _normalize(_to_text(gold))
    best = max(_compare(_normalize(text), wanted) for text in _readings(predicted))
    return best[0], float(best[0]) if is_computed else best[1]


def _readings(answer: ScaledAnswer) -> list[str]:
    """As given; a lone number without scale also unrounded, since 0.2342 may be meant as 23.42 percent."""
    readings = [_to_text(answer)]
    alone = answer.texts[0]
    if len(answer.texts) == 1 and not answer.scale and "%" not in alone and is_number(alone):
        value = to_number(alone)
        if value is not None:
            readings.append(f"{value:.4f}")
    return readings


def _to_text(answer: ScaledAnswer) -> str:
    return " ".join(_with_scale(text, answer.scale) for text in sorted(answer.texts))


def _with_scale(text: str, scale: str) -> str:
    value = to_number(text) if is_number(text) else None
    if value is None:
        return f"{text} {scale}" if scale else text
    if "%" in text:
        return f"{value:.4f}"
    return f"{round(value, 2) * _factor(scale):.4f}"


def _factor(text: str) -> float | int:
    """The factor of the first scale word that the text holds, 1 without one."""
    return next((factor for word, factor in _FACTORS.items() if word in text.lower()), 1)


def is_number(text: str) -> bool:
    """`1,023`, `$0.5 million`, `(16.6)`, `12%`; not `2019, 2018`."""
    words = " ".join(word.translate(_NOT_IN_NUMBERS) for word in text.split()).split()
    try:
        is_a_number = bool(words) and float(words[0]) == float(words[0])  # not a nan
    except ValueError:
        return False
    return is_a_number and (len(words) == 1 or _factor(words[1]) != 1)


def to_number(text: str) -> float | int | None:
    """The first number of a text with its word scale, percent sign and the minus of brackets; None for `.5` alone."""
    match = _NUMBER.search(text.translate(_NOT_IN_NUMBERS))
    if match is None or match["digits"] is None:
        return None
    # Whole numbers stay whole, since `5` and `5.0` are different words to the metric.
    number: float | int = float(match["digits"]) if "." in match["digits"] else int(match["digits"])
    scaled = re.search(r"[\d.]+\s?[a-zA-Z]+", text)
    sign = -1 if re.search(r"\([\d.\s]+\)", text) else 1
    percent = 0.01 if re.search(r"[\d.\s]+%", text) else 1
    return round(number * (_factor(scaled[0]) if scaled else 1) * sign * percent, 4)


def _normalize(text: str) -> str:
    return " ".join(" ".join(map(_normalize_word, text.lower().split(" "))).split())


def _normalize_word(word: str) -> str:
    if not is_number(word):
        word = word.translate(_PUNCTUATION)
    return _ARTICLES.sub(" ", str(to_number(word)) if is_number(word) else word)


def _compare(predicted: str, gold: str) -> tuple[bool, float]:
    found, wanted = set(predicted.split()), set(gold.split())
    num_common = len(found & wanted)
    precision = num_common / len(found) if found else 1.0
    recall = num_common / len(wanted) if wanted else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return predicted == gold, round(f1, 2)


def parse_answer(text: str) -> ScaledAnswer:
    """`17.7 percent`, `19,911; 15,916 thousand`: answers between semicolons, the scale after each or the last."""
    parts = [_split_scale(part) for part in text.split(";") if part.strip()]
    scales = {scale for _, scale in parts if scale}
    is_shared = len(scales) == 1 and (all(scale for _, scale in parts) or bool(parts[-1][1]))
    if is_shared:
        return ScaledAnswer(tuple(answer for answer, _ in parts), scales.pop())
    return ScaledAnswer(tuple(f"{answer} {scale}".strip() for answer, scale in parts))


def _split_scale(text: str) -> tuple[str, str]:
    """A number and the scale word behind it; texts that merely end with such a word stay whole."""
    text = text.strip()
    head, _, tail = text.rpartition(" ")
    scale = tail.lower().strip("().").removesuffix("s")
    if scale in SCALES and is_number(head):
        return head, scale
    return text, ""


def format_answer(answer: ScaledAnswer) -> str:
    """The form that `parse_answer` reads."""
    scaled = (f"{text} {answer.scale}" if answer.scale and is_number(text) else text for text in answer.texts)
    return "; ".join(" ".join(text.split()) for text in scaled if text.strip())
