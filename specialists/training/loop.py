"""The training loop: optimizer steps over a method's batches, validation, checkpoints, early stopping.

Knows neither files of data, nor how an adapter is written, nor what the method computes. What a batch holds is a function of
its step and the weights, so a step number and the weights say all about where a run stands.
"""

import math
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from torch import Tensor

from specialists.evaluation.progress import Meter, show_progress
from specialists.training.checkpoint import read_checkpoint, write_checkpoint
from specialists.training.method import Batch, Method
from specialists.training.metrics import MetricsLog
from specialists.training.optimizer import MasterAdamW, learning_rate
from specialists.training.sections import Optimizer, Validation


class TrainingError(RuntimeError):
    """The run cannot go on; the message says at which step and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a run goes on, whatever it learns by. `run_id` identifies settings and data in its checkpoint."""

    title: str
    run_id: str
    optimizer: Optimizer
    validation: Validation
    checkpoint_every_steps: int


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
    """The end of a run. The model holds the best weights, those of `best_step`; without validation the last ones."""

    num_steps: int
    best_step: int
    best_loss: float | None  # None without validation
    stopped_early: bool


class Trainer:
    """One run in one folder. `run` returns when the steps are done or validation no longer improves."""

    def __init__(self, method: Method, plan: Plan, folder: Path) -> None:
        self.method = method
        self._plan = plan
        self._folder = folder
        self._optimizer = MasterAdamW(method.parameters, plan.optimizer)
        self._progress = _Progress()

    def run(self, on_step: Callable[[int], None] | None = None) -> TrainingResult:
        """Train, continuing a checkpoint when there is one. `on_step` hears each finished step.

        Raises CheckpointError, and TrainingError when the loss or gradient is not finite.
        """
        self._resume()
        metrics = MetricsLog(self._folder, self._progress.step)
        if self._progress.step == 0:
            self._validate(metrics)
        with show_progress(self._plan.title, self.method.num_steps) as meter:
            meter.advance(self._progress.step)
            while self._progress.step < self.method.num_steps and not self._is_done:
                self._train_step(metrics, meter)
                if on_step is not None:
                    on_step(self._progress.step)
        return self._finish()

    @property
    def _is_done(self) -> bool:
        return self._progress.looks_without_gain >= self._plan.validation.patience

    def _train_step(self, metrics: MetricsLog, meter: Meter) -> None:
        start = monotonic()
        batch = self.method.batch(self._progress.step)
        total = 0.0
        for part in batch.parts:
            loss = part.loss()
            loss.backward()
            self._optimizer.gather()
            total += loss.item()
        num_targets = sum(part.num_targets for part in batch.parts)
        lr = learning_rate(self._plan.optimizer, self._progress.step, self.method.num_steps)
        try:
            norm = self._optimizer.step(lr, num_targets)
        except FloatingPointError as error:
            raise TrainingError(f"step {self._progress.step + 1}: {error}") from error
        self._progress.step += 1
        mean = total / max(num_targets, 1)
        metrics.write(
            self._progress.step,
            loss=round(mean, 5),
            lr=lr,
            grad_norm=round(norm, 4),
            **_cost(batch, monotonic() - start),
            **batch.facts,
        )
        meter.advance(1, sum(part.num_tokens for part in batch.parts), f"loss {mean:.3f}")
        self._look_and_save(metrics)

    def _look_and_save(self, metrics: MetricsLog) -> None:
        step, is_last = self._progress.step, self._progress.step == self.method.num_steps
        if is_last or step % self._plan.validation.every_steps == 0:
            self._validate(metrics)
        if is_last or step % self._plan.checkpoint_every_steps == 0 or self._is_done:
            write_checkpoint(self._folder, self._plan.run_id, self._state())

    def _validate(self, metrics: MetricsLog) -> None:
        progress = self._progress
        loss = self.method.validate()
        if loss is None:
            progress.best_step, progress.best_weights = progress.step, self._optimizer.weights()
            return
        metrics.write(progress.step, validation_loss=round(loss, 5))
        if loss < progress.best_loss or self._plan.validation.keep == "last":
            progress.best_loss, progress.best_step = loss, progress.step
            progress.looks_without_gain = 0
            progress.best_weights = self._optimizer.weights()
        else:
            progress.looks_without_gain += 1

    def _state(self) -> dict[str, Any]:
        return {"progress": self._progress.state(), "optimizer": self._optimizer.state()}

    def _resume(self) -> None:
        state = read_checkpoint(self._folder, self._plan.run_id)
        if state is not None:
            self._progress = _Progress(**state["progress"])
            self._optimizer.load_state(state["optimizer"])

    def _finish(self) -> TrainingResult:
        progress = self._progress
        self._optimizer.load_weights(progress.best_weights)
        best_loss = progress.best_loss if math.isfinite(progress.best_loss) else None
        return TrainingResult(progress.step, progress.best_step, best_loss, self._is_done)


def _cost(batch: Batch, seconds: float) -> dict[str, Any]:
    num_tokens = sum(part.num_tokens for part in batch.parts)
    return {
        "tokens": num_tokens,
        "unshared_tokens": sum(part.num_unshared_tokens for part in batch.parts),
        "targets": sum(part.num_targets for part in batch.parts),
        "seconds": round(seconds, 2),
        "tokens_per_second": round(num_tokens / seconds, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
