"""The shortcut of multiple choice: answering with a favourite letter. Watched in every batch, and penalised.

For the questions of one pack, `mean prediction` is the average of the model's probabilities over the option letters, and
`right shares` how often each letter is right. A model that guesses one letter has them far apart whatever its
accuracy. (Options are shuffled where the rows are made, so the right shares are about even.)

A favourite also spoils learning: its gradient is the same for every question, so it drowns what tells one question's options
apart. `centered` takes it out of the cross-entropy, and out of a teacher's distribution where one is learned, and leaves it
to the penalty alone.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from specialists.tokenizer import ChatTokenizer
from specialists.training.packing import Pack
from specialists.training.sections import Shortcut

# The mean of fewer questions says more of them than of a favourite.
_MIN_CENTERED = 4


class ShortcutError(ValueError):
    """The recipe's labels cannot be watched; the message says which and why."""


def label_tokens(tokenizer: ChatTokenizer, labels: Sequence[str]) -> tuple[int, ...]:
    """The token each label begins an answer with. Raises ShortcutError when two begin alike."""
    first = tuple(tokenizer.encode(label)[0] for label in labels)
    if len(set(first)) < len(first):
        raise ShortcutError(
            f"shortcut.labels {list(labels)} do not begin with different tokens: {list(first)}"
        )
    return first


@dataclass(frozen=True, slots=True)
class TaughtLabels:
    """What a teacher says of the labels at every target, [num_targets, num_labels], and its share of the loss."""

    log_probabilities: Tensor
    weight: float


class ShortcutTerm:
    """The penalty of one pack; rows that do not predict a label's token count for nothing."""

    temperature = 1.0

    def __init__(
        self,
        pack: Pack,
        tokens: Sequence[int],
        settings: Shortcut,
        progress: float = 0.0,
        answer_weight: float = 1.0,
        taught: Sequence[TaughtLabels] = (),
    ) -> None:
        """`progress`: the share of the run's steps that is done. `answer_weight` and `taught`: the losses that are learned
        beside this one, a cross-entropy and forward divergences at temperature 1, which centering corrects.
        """
        self.ids = torch.tensor(tokens).expand(len(pack.targets), -1)
        # The first token of an answer is predicted from the end of its prompt.
        starts = first_targets(pack)
        label_of = {token: index for index, token in enumerate(tokens)}
        self._labels = torch.tensor(
            [
                label_of.get(target, -1) if is_first else -1
                for target, is_first in zip(pack.targets, starts, strict=True)
            ]
        )
        self._settings = settings
        self._is_centered = progress < settings.centered
        self._offered = offered_labels(pack, tokens)
        self._answer_weight = answer_weight
        self._taught = taught
        self.predicted: Counter[str] = Counter()  # how often each label was the most likely one
        self.num_right = 0
        self.divergence = 0.0

    def loss(self, log_probabilities: Tensor, rows: slice) -> Tensor:
        chosen = self._labels[rows] >= 0
        if not chosen.any():
            return log_probabilities.new_zeros(())
        among_labels = torch.log_softmax(log_probabilities[chosen], dim=1)
        names = self._settings.labels
        predicted = among_labels.argmax(1)
        self.predicted.update(names[index] for index in predicted.tolist())
        self.num_right += int((predicted == self._labels[rows][chosen]).sum())
        mean = among_labels.exp().mean(0)
        right = torch.bincount(self._labels[rows][chosen], minlength=len(names)).float()
        right = right / right.sum()
        divergence = (mean * (mean.clamp_min(1e-9).log() - (0.99 * right + 0.01 / len(names)).log())).sum()
        self.divergence = float(divergence.detach())
        over = (divergence - self._settings.tolerance).clamp_min(0.0)
        penalty = self._settings.weight * int(chosen.sum()) * over
        return penalty + self._centering(log_probabilities, rows) if self._is_centered else penalty

    def _centering(self, log_probabilities: Tensor, rows: slice) -> Tensor:
        """What to add to the losses of the letters, so that they become those of the centered scores."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, (label, offered) in enumerate(
            zip(self._labels[rows].tolist(), self._offered[rows], strict=True)
        ):
            if label in offered:
                groups[offered].append(row)
        total = log_probabilities.new_zeros(())
        for offered, members in groups.items():
            if len(members) < _MIN_CENTERED:
                continue
            scores = log_probabilities[members][:, offered]
            right = torch.tensor([offered.index(int(self._labels[rows][row])) for row in members])
            answers = one_hot(right, len(offered)).float()
            total = total + self._answer_weight * _centered(scores, answers, answers)
            for taught in self._taught:
                theirs = taught.log_probabilities[rows][members][:, offered]
                # A divergence over all tokens counts the letters by the probability that they have together.
                plain, even = (
                    theirs.exp(),
                    theirs.exp().sum(1, keepdim=True) * ((theirs - theirs.mean(0)).softmax(1)),
                )
                total = total + taught.weight * _centered(scores, plain, even)
        return total


def _centered(scores: Tensor, targets: Tensor, centered_targets: Tensor) -> Tensor:
    """The cross-entropy of the scores without their mean over the questions, less that of the scores themselves.

    All [num_questions, num_letters].
    """
    after = (centered_targets * torch.log_softmax(scores - scores.mean(0), dim=1)).sum()
    before = (targets * torch.log_softmax(scores, dim=1)).sum()
    return before - after


def offered_labels(pack: Pack, tokens: Sequence[int]) -> list[tuple[int, ...]]:
    """For each target the places of the labels that its prompt lists: those whose token stands in it."""
    offered: list[tuple[int, ...]] = []
    for group in pack.groups:
        seen = set(group.prompt_ids)
        listed = tuple(place for place, token in enumerate(tokens) if token in seen)
        offered += [listed] * sum(map(len, group.answers))
    return offered


def first_targets(pack: Pack) -> list[bool]:
    """For each target whether it is its answer's first token."""
    flags: list[bool] = []
    for group in pack.groups:
        for answer in group.answers:
            flags += [True, *[False] * (len(answer) - 1)]
    return flags


def describe(terms: Sequence[ShortcutTerm]) -> dict[str, Any]:
    """What a step's metrics say of its packs: the shares of each label and of right answers, the mean divergence."""
    predicted = sum((term.predicted for term in terms), Counter[str]())
    total = max(predicted.total(), 1)
    return {
        "answer_shares": {label: round(count / total, 3) for label, count in sorted(predicted.items())},
        "answer_accuracy": round(sum(term.num_right for term in terms) / total, 3),
        "answer_divergence": round(sum(term.divergence for term in terms) / max(len(terms), 1), 4),
    }
