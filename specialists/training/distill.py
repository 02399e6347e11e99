"""Distillation: the student learns a teacher's distributions and hidden states on given, or on its own, answers.

The teachers read each given answer once, before the first step (`teacher_cache`). Answers that the student writes
as it learns are new each time, so there the teachers stay in memory and read along.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from specialists.training.divergence import TeacherTerm
from specialists.training.lora import TrainableModel
from specialists.training.losses import AnswerTerm, RowTerm, chunked_row_loss
from specialists.training.method import Batch, pack_part, validation_loss
from specialists.training.method_sections import Distill
from specialists.training.packing import Pack
from specialists.training.projection import Projections
from specialists.training.recipe import RecipeError
from specialists.training.sections import Shortcut
from specialists.training.sft import Schedule
from specialists.training.shortcut import ShortcutTerm, TaughtLabels, describe
from specialists.training.teacher import Lesson, TeachPack, behind

# From the packs of a step and its number to packs with the student's own answers.
WritePacks = Callable[[Sequence[Pack], int], Sequence[Pack]]

# Rows the projections are fitted on; a map from 1,536 to 896 numbers needs more rows than columns.
_MAX_FIT_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """One teacher: its share of the loss, and where its lessons come from (the cache, or the model itself)."""

    name: str
    weight: float
    teach: TeachPack


@dataclass(frozen=True, slots=True)
class Watch:
    """The letters whose favourites are watched, by the token each begins with."""

    tokens: tuple[int, ...]
    settings: Shortcut


@dataclass(frozen=True, slots=True)
class _Step:
    """What the losses of a step's packs share."""

    batch: Batch
    num_targets: int
    progress: float  # the share of the run's steps that is done
    penalties: list[ShortcutTerm]


class DistillMethod:
    """Learns from the teachers on the schedule's packs; `write` may put the student's own answers in their place, `watch`
    penalises favourite letters.

    Raises RecipeError when the settings name a layer that the student does not have.
    """

    def __init__(
        self,
        model: TrainableModel,
        schedule: Schedule,
        settings: Distill,
        teachers: Sequence[Source],
        write: WritePacks | None = None,
        watch: Watch | None = None,
    ) -> None:
        deepest = max(pair.student for pair in settings.layers)
        if settings.hidden_weight and deepest >= model.num_layers:
            raise RecipeError(
                f"distill.layers names the student's layer {deepest}; it has {model.num_layers}"
            )
        self._model = model
        self._schedule = schedule
        self._settings = settings
        self._teachers = teachers
        self._write = write
        self._watch = watch
        self._total_weight = sum(teacher.weight for teacher in teachers)
        self._projections = self._fit_projections() if settings.hidden_weight else {}

    @property
    def num_steps(self) -> int:
        return len(self._schedule.steps)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        own = dict(self._model.parameters)
        for projections in self._projections.values():
            own |= projections.parameters
        return own

    def batch(self, step: int) -> Batch:
        packs: Sequence[Pack] = self._schedule.steps[step]
        if self._write is not None:
            packs = self._write(packs, step)
        batch = Batch([])
        num_targets = sum(len(pack.targets) for pack in packs)
        context = _Step(batch, num_targets, step / self.num_steps, [])
        parts = [pack_part(pack, partial(self._loss, pack, context)) for pack in packs]
        return Batch(parts, batch.facts)

    def validate(self) -> float | None:
        return validation_loss(self._model, self._schedule.validation)

    def _loss(self, pack: Pack, step: _Step) -> Tensor:
        settings = self._settings
        lessons = [(teacher, teacher.teach(pack)) for teacher in self._teachers]
        states = (
            self._model.layer_states(pack)
            if settings.hidden_weight
            else (self._model.predicting_states(pack),)
        )
        terms = self._terms(pack, lessons)
        if self._watch is not None:
            step.penalties.append(self._penalty(pack, lessons, step.progress, self._watch))
            terms.append(step.penalties[-1])
        total = chunked_row_loss(states[-1], self._model.head, terms) if terms else torch.zeros(())
        for teacher, lesson in lessons if settings.hidden_weight else ():
            weight = settings.hidden_weight * self._share(teacher)
            own = [states[behind(pair.student)] for pair in settings.layers]
            distance = self._projections[teacher.name].loss(own, list(lesson.hidden))
            total = total + weight * distance
            share = float(distance.detach()) / step.num_targets
            facts = step.batch.facts
            facts["hidden_distance"] = round(facts.get("hidden_distance", 0.0) + share, 5)
        if step.penalties:
            step.batch.facts.update(describe(step.penalties))
        return total

    def _terms(self, pack: Pack, lessons: Sequence[tuple[Source, Lesson]]) -> list[RowTerm]:
        settings = self._settings
        terms: list[RowTerm] = []
        if settings.answer_weight:
            terms.append(AnswerTerm(torch.tensor(pack.targets), settings.answer_weight))
        if settings.logit_weight:
            for teacher, lesson in lessons:
                weight = settings.logit_weight * self._share(teacher)
                terms.append(TeacherTerm(lesson.ids.long(), lesson.log_probabilities, settings, weight))
        return terms

    def _penalty(
        self, pack: Pack, lessons: Sequence[tuple[Source, Lesson]], progress: float, watch: Watch
    ) -> ShortcutTerm:
        settings = self._settings
        taught = [
            TaughtLabels(
                lesson.log_probabilities_of(watch.tokens),
                settings.logit_weight * self._share(teacher),
            )
            for teacher, lesson in (lessons if settings.logit_weight else ())
        ]
        return ShortcutTerm(pack, watch.tokens, watch.settings, progress, settings.answer_weight, taught)

    def _share(self, teacher: Source) -> float:
        return teacher.weight / self._total_weight

    def _fit_projections(self) -> dict[str, Projections]:
        packs, num_rows = [], 0
        for pack in (pack for step in self._schedule.steps for pack in step):
            packs.append(pack)
            num_rows += len(pack.targets)
            if num_rows >= _MAX_FIT_ROWS:
                break
        with self._model.adapter_off():
            student = [
                [self._model.layer_states(pack)[behind(pair.student)] for pair in self._settings.layers]
                for pack in packs
            ]
        own = [torch.cat(parts) for parts in zip(*student, strict=True)]
        fitted = {}
        for teacher in self._teachers:
            hidden = torch.cat([teacher.teach(pack).hidden for pack in packs], dim=1)
            fitted[teacher.name] = Projections(teacher.name, own, list(hidden))
        return fitted
