"""Where the errors of one evaluation lie: which letters, which lengths, which categories, which exceptions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from specialists.evaluation.answer import GradedAnswer
from specialists.evaluation.letters import LETTERS

_UNREAD = "none"
_MIN_ITEMS = 5  # of a category worth showing
_NUM_SHOWN = 12


def analyze(answers: Sequence[GradedAnswer]) -> dict[str, Any]:
    """JSON to put into a report; only what these answers have something to say about."""
    found = {
        "unread": sum(answer.grade.extracted is None for answer in answers),
        "length": _by_length(answers),
        "categories": _by_category(answers),
        "details": _count_details(answers),
        "specialists": dict(
            Counter(answer.specialist for answer in answers if answer.specialist).most_common()
        ),
    }
    if all(answer.grade.expected is not None and answer.grade.expected in LETTERS for answer in answers):
        found["letters"] = confuse_letters(answers)
    return {name: value for name, value in found.items() if value or name == "unread"}


def confuse_letters(answers: Iterable[GradedAnswer]) -> dict[str, Any]:
    """Right letter to chosen letters, and the share of each letter chosen and right: a favourite shows."""
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        confusion[str(answer.grade.expected)][answer.grade.extracted or _UNREAD] += 1
    chosen = sum(confusion.values(), Counter[str]())
    expected = Counter({letter: row.total() for letter, row in confusion.items()})
    return {
        "confusion": {letter: dict(sorted(confusion[letter].items())) for letter in sorted(confusion)},
        "share_chosen": _shares(chosen),
        "share_right": _shares(expected),
    }


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {name: round(counts[name] / total, 4) for name in sorted(counts)}


def _by_length(answers: Sequence[GradedAnswer]) -> dict[str, Any]:
    """Mean tokens of right and wrong answers, and the score of the shorter and the longer half."""
    ordered = sorted(answers, key=lambda answer: answer.num_tokens)
    shorter, longer = ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]
    right = [answer.num_tokens for answer in answers if answer.grade.correct]
    wrong = [answer.num_tokens for answer in answers if not answer.grade.correct]
    return {
        "mean_tokens_right": round(mean(right), 1) if right else None,
        "mean_tokens_wrong": round(mean(wrong), 1) if wrong else None,
        "score_shorter_half": _score(shorter),
        "score_longer_half": _score(longer),
    }


def _by_category(answers: Iterable[GradedAnswer]) -> list[dict[str, Any]]:
    """The worst categories first."""
    groups: dict[str, list[GradedAnswer]] = defaultdict(list)
    for answer in answers:
        if answer.category:
            groups[answer.category].append(answer)
    rows = [
        {"category": name, "num_items": len(group), "score": _score(group)}
        for name, group in groups.items()
        if len(group) >= _MIN_ITEMS
    ]
    return sorted(rows, key=lambda row: row["score"])[:_NUM_SHOWN]  # type: ignore[arg-type,return-value]


def _score(answers: Sequence[GradedAnswer]) -> float | None:
    return round(mean(answer.grade.score for answer in answers), 4) if answers else None


def _count_details(answers: Iterable[GradedAnswer]) -> dict[str, int]:
    kinds = Counter(answer.grade.detail.split(":", 1)[0] for answer in answers if answer.grade.detail)
    return dict(kinds.most_common(_NUM_SHOWN))
