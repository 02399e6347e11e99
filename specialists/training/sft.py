"""Supervised fine-tuning: cross-entropy on given answers, in packs made for all epochs before the first step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from specialists.tokenizer import ChatTokenizer
from specialists.training.data import DataError, PromptGroup, render_groups
from specialists.training.lora import TrainableModel
from specialists.training.losses import AnswerTerm
from specialists.training.method import Batch, pack_loss, pack_part, validation_loss
from specialists.training.packing import Pack, group_into_steps, pack_groups
from specialists.training.rows import TrainingRows
from specialists.training.sections import Batching, Shortcut
from specialists.training.shortcut import ShortcutTerm, describe, label_tokens


@dataclass(frozen=True, slots=True)
class Schedule:
    """All steps of a run in order, and the packs it is validated on."""

    steps: tuple[tuple[Pack, ...], ...]
    validation: tuple[Pack, ...]


RewriteGroups = Callable[[Sequence[PromptGroup]], Sequence[PromptGroup]]


def build_schedule(
    batching: Batching,
    seed: int,
    rows: TrainingRows,
    tokenizer: ChatTokenizer,
    rewrite: RewriteGroups = lambda groups: groups,
) -> Schedule:
    """`rewrite` may give the training prompts other answers. Raises DataError when no row fits max_seq_len."""
    steps: list[tuple[Pack, ...]] = []
    for epoch in range(batching.epochs):
        groups = rewrite(render_groups(rows.train(epoch), tokenizer, epoch, seed, batching.max_seq_len))
        packs = pack_groups(groups, batching.pack_tokens, seed + epoch)
        steps += group_into_steps(packs, batching.step_tokens)
    if not steps:
        raise DataError(f"no row fits max_seq_len = {batching.max_seq_len} tokens")
    validation = render_groups(rows.validation, tokenizer, 0, seed, batching.max_seq_len)
    return Schedule(
        tuple(steps[: batching.max_steps]), tuple(pack_groups(validation, batching.pack_tokens, seed))
    )


class SupervisedMethod:
    """Learns the schedule's answers, perhaps with a penalty on favourite letters."""

    def __init__(
        self,
        model: TrainableModel,
        schedule: Schedule,
        tokenizer: ChatTokenizer,
        shortcut: Shortcut | None = None,
    ) -> None:
        self._model = model
        self._schedule = schedule
        self._shortcut = shortcut
        self._labels = () if shortcut is None else label_tokens(tokenizer, shortcut.labels)

    @property
    def num_steps(self) -> int:
        return len(self._schedule.steps)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self._model.parameters

    def batch(self, step: int) -> Batch:
        packs = self._schedule.steps[step]
        if self._shortcut is None:
            return Batch([pack_part(pack, partial(pack_loss, self._model, pack)) for pack in packs])
        batch = Batch([])
        progress = step / self.num_steps
        penalties = [ShortcutTerm(pack, self._labels, self._shortcut, progress) for pack in packs]

        def loss(pack: Pack, penalty: ShortcutTerm) -> Tensor:
            terms = (AnswerTerm(torch.tensor(pack.targets)), penalty)
            total = pack_loss(self._model, pack, terms)
            batch.facts.update(describe(penalties))
            return total

        parts = [
            pack_part(pack, partial(loss, pack, one)) for pack, one in zip(packs, penalties, strict=True)
        ]
        return Batch(parts, batch.facts)

    def validate(self) -> float | None:
        return validation_loss(self._model, self._schedule.validation)
