"""The training loop: packs in, optimizer steps, validation, checkpoints, early stopping.

Knows neither files of data nor how the adapter is published. The order of packs is a function of recipe,
data and epoch, so a step number says all about where a run stands.
"""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from specialists.evaluation.progress import Meter, show_progress
from specialists.training.checkpoint import read_checkpoint, write_checkpoint
from specialists.training.lora import TrainableModel
from specialists.training.losses import chunked_cross_entropy
from specialists.training.metrics import MetricsLog
from specialists.training.optimizer import MasterAdamW, learning_rate
from specialists.training.packing import Pack
from specialists.training.recipe import Recipe

Step = tuple[Pack, ...]


class TrainingError(RuntimeError):
    """The run cannot go on; the message says at which step and why."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All steps of a run in order, and the packs it is validated on."""

    steps: tuple[Step, ...]
    validation: tuple[Pack, ...]


@dataclass(slots=True)
class _Progress:
    """Where a run stands; all of it goes into the checkpoint."""

    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    looks_without_gain: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The end of a run. The model holds the best weights, those of `best_step`."""

    num_steps: int
    best_step: int
    best_loss: float
    stopped_early: bool


def pack_loss(model: TrainableModel, pack: Pack) -> Tensor:
    """The summed cross-entropy of a pack's answers, a float32 scalar."""
    hidden = model.hidden_states(torch.tensor(pack.token_ids), torch.tensor(pack.position_ids), pack.segments)
    predicting = hidden.index_select(0, torch.tensor(pack.loss_positions))
    return chunked_cross_entropy(predicting, model.head, torch.tensor(pack.targets))


def validation_loss(model: TrainableModel, packs: Sequence[Pack]) -> float:
    """The mean cross-entropy per answer token. Raises ValueError without packs."""
    if not packs:
        raise ValueError("validation needs at least one pack")
    with torch.inference_mode():
        total = sum(float(pack_loss(model, pack)) for pack in packs)
    return total / sum(len(pack.targets) for pack in packs)


class Trainer:
    """One run in one folder. `run` returns when the steps are done or validation no longer improves."""

    def __init__(
        self, model: TrainableModel, recipe: Recipe, schedule: Schedule, folder: Path, run_id: str
    ) -> None:
        self.model = model
        self._recipe = recipe
        self._schedule = schedule
        self._folder = folder
        self._run_id = run_id
        self._optimizer = MasterAdamW(model.parameters, recipe.optimizer)
        self._progress = _Progress()

    def run(self, on_step: Callable[[int], None] | None = None) -> TrainingResult:
        """Train, continuing a checkpoint when there is one. `on_step` hears each finished step.

        Raises CheckpointError, and TrainingError when the loss or gradient is not finite.
        """
        self._resume()
        steps = self._schedule.steps
        metrics = MetricsLog(self._folder, self._progress.step)
        if self._progress.step == 0:
            self._validate(metrics)
        with show_progress(f"training {self._recipe.name}", len(steps)) as meter:
            meter.advance(self._progress.step)
            while self._progress.step < len(steps) and not self._is_done:
                self._train_step(metrics, meter)
                if on_step is not None:
                    on_step(self._progress.step)
        return self._finish()

    @property
    def _is_done(self) -> bool:
        return self._progress.looks_without_gain >= self._recipe.validation.patience

    def _train_step(self, metrics: MetricsLog, meter: Meter) -> None:
        start = monotonic()
        step = self._schedule.steps[self._progress.step]
        total = 0.0
        for pack in step:
            loss = pack_loss(self.model, pack)
            loss.backward()
            self._optimizer.gather()
            total += loss.item()
        num_targets = sum(len(pack.targets) for pack in step)
        lr = learning_rate(self._recipe.optimizer, self._progress.step, len(self._schedule.steps))
        try:
            norm = self._optimizer.step(lr, num_targets)
        except FloatingPointError as error:
            raise TrainingError(f"step {self._progress.step + 1}: {error}") from error
        self._progress.step += 1
        num_tokens = sum(len(pack.token_ids) for pack in step)
        seconds = monotonic() - start
        metrics.write(
            self._progress.step,
            loss=round(total / num_targets, 5),
            lr=lr,
            grad_norm=round(norm, 4),
            tokens=num_tokens,
            unshared_tokens=sum(pack.num_unshared_tokens for pack in step),
            targets=num_targets,
            seconds=round(seconds, 2),
            tokens_per_second=round(num_tokens / seconds, 1),
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )
        meter.advance(1, num_tokens, f"loss {total / num_targets:.3f}")
        self._look_and_save(metrics)

    def _look_and_save(self, metrics: MetricsLog) -> None:
        step, is_last = self._progress.step, self._progress.step == len(self._schedule.steps)
        if is_last or step % self._recipe.validation.every_steps == 0:
            self._validate(metrics)
        if is_last or step % self._recipe.checkpoint_every_steps == 0 or self._is_done:
            write_checkpoint(self._folder, self._run_id, self._state())

    def _validate(self, metrics: MetricsLog) -> None:
        progress = self._progress
        if not self._schedule.validation:
            progress.best_step, progress.best_weights = progress.step, self._optimizer.weights()
            return
        loss = validation_loss(self.model, self._schedule.validation)
        metrics.write(progress.step, validation_loss=round(loss, 5))
        if loss < progress.best_loss:
            progress.best_loss, progress.best_step = loss, progress.step
            progress.looks_without_gain = 0
            progress.best_weights = self._optimizer.weights()
        else:
            progress.looks_without_gain += 1

    def _state(self) -> dict[str, Any]:
        return {"progress": self._progress.state(), "optimizer": self._optimizer.state()}

    def _resume(self) -> None:
        state = read_checkpoint(self._folder, self._run_id)
        if state is not None:
            self._progress = _Progress(**state["progress"])
            self._optimizer.load_state(state["optimizer"])

    def _finish(self) -> TrainingResult:
        progress = self._progress
        self._optimizer.load_weights(progress.best_weights)
        return TrainingResult(progress.step, progress.best_step, progress.best_loss, self._is_done)
