"""A random search of settings on a few percent of the data, cross-validated.

Each trial draws learning rate, rank, step size and epochs; trains once for each fold on the other folds; and counts the mean
of the best validation losses. Trials are logged as they end, so that a search that was killed goes on. Losses of
different trials compare, as all see the same folds in the same form.
"""

import json
import math
import random
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from specialists.tokenizer import ChatTokenizer
from specialists.training.data import DataError, PromptGroup, render_groups
from specialists.training.loop import Plan, Trainer
from specialists.training.lora import load_trainable
from specialists.training.method_sections import Search
from specialists.training.packing import group_into_steps, pack_groups
from specialists.training.recipe import Recipe, RecipeError
from specialists.training.rows import TrainingRows
from specialists.training.run_folders import Folders
from specialists.training.sft import Schedule, SupervisedMethod

LOG_FILE = "search.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One draw of settings, and what came of it: a loss for each fold."""

    number: int
    lr: float
    rank: int
    step_tokens: int
    epochs: int
    losses: tuple[float, ...] = ()

    @property
    def alpha(self) -> float:
        """Two for each rank, so that learning rates compare."""
        return 2.0 * self.rank

    @property
    def loss(self) -> float:
        return statistics.fmean(self.losses)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def settings(self) -> str:
        """As a recipe says it."""
        return (
            f"[lora]\nrank = {self.rank}\nalpha = {self.alpha:g}\n\n[optimizer]\nlr = {self.lr:.2g}\n\n"
            f"[batching]\nepochs = {self.epochs}\nstep_tokens = {self.step_tokens}\n"
        )


def draw_trial(search: Search, seed: int, number: int) -> Trial:
    """The trial of that number, whatever was drawn before it."""
    generator = random.Random(f"{seed}/{number}")
    low, high = (math.log(bound) for bound in search.lr)
    return Trial(
        number=number,
        lr=math.exp(generator.uniform(low, high)),
        rank=generator.choice(search.rank),
        step_tokens=generator.choice(search.step_tokens),
        epochs=generator.choice(search.epochs),
    )


def search_settings(recipe: Recipe, folders: Folders, dtype: torch.dtype = torch.bfloat16) -> list[Trial]:
    """All trials, the best first.

    Raises RecipeError for another method than sft, a pre-task or an adapter to begin with, DataError when there are too
    few rows.
    """
    if recipe.method != "sft":
        raise RecipeError(f'the search compares losses of method = "sft", found {recipe.method!r}')
    if recipe.pretask is not None:
        raise RecipeError("the search trains one stage; remove pretask")
    if recipe.lora.start is not None:
        raise RecipeError(
            "the search tries several ranks, so it cannot begin with an adapter; remove lora.start"
        )
    search = recipe.search
    tokenizer = ChatTokenizer.from_folder(folders.base)
    rows = TrainingRows(recipe.sources, folders.data, recipe.validation, recipe.seed)
    folds = draw_folds(recipe, rows, tokenizer)
    run_id = _run_id(recipe, rows)
    log = folders.run / LOG_FILE
    done = _read_log(log, run_id)
    for number in range(len(done), search.trials):
        trial = draw_trial(search, recipe.seed, number)
        losses = [
            _train_fold(recipe, folders, tokenizer, trial, folds, held_out, run_id, dtype)
            for held_out in range(search.folds)
        ]
        done.append(Trial(**{**trial.to_json(), "losses": tuple(losses)}))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"fingerprint": run_id, **done[-1].to_json()}) + "\n")
    return sorted(done, key=lambda trial: trial.loss)


def draw_folds(recipe: Recipe, rows: TrainingRows, tokenizer: ChatTokenizer) -> list[list[PromptGroup]]:
    """A share of the training prompts in equal parts; prompts with all their answers are in one of them."""
    groups = render_groups(rows.train(0), tokenizer, 0, recipe.seed, recipe.batching.max_seq_len)
    random.Random(recipe.seed).shuffle(groups)
    few = groups[: math.ceil(recipe.search.share * len(groups))]
    if len(few) < recipe.search.folds:
        raise DataError(
            f"search.share = {recipe.search.share} of {len(groups)} prompts are {len(few)}, fewer than the "
            f"{recipe.search.folds} folds"
        )
    return [few[place :: recipe.search.folds] for place in range(recipe.search.folds)]


def _train_fold(
    recipe: Recipe,
    folders: Folders,
    tokenizer: ChatTokenizer,
    trial: Trial,
    folds: Sequence[Sequence[PromptGroup]],
    held_out: int,
    run_id: str,
    dtype: torch.dtype,
) -> float:
    """The best validation loss on one fold after training on the others."""
    lora = recipe.lora.model_copy(update={"rank": trial.rank, "alpha": trial.alpha})
    model = load_trainable(folders.base, lora, recipe.seed, dtype, recipe.quantization, folders.kernels)
    training = [group for place, fold in enumerate(folds) if place != held_out for group in fold]
    pack_tokens = recipe.batching.pack_tokens
    steps = [
        tuple(step)
        for epoch in range(trial.epochs)
        for step in group_into_steps(
            pack_groups(training, pack_tokens, recipe.seed + epoch), trial.step_tokens
        )
    ]
    schedule = Schedule(tuple(steps), tuple(pack_groups(folds[held_out], pack_tokens, recipe.seed)))
    run = folders.run / f"trial-{trial.number}-{held_out}"
    plan = Plan(
        title=f"trial {trial.number + 1} of {recipe.search.trials}, fold {held_out + 1}",
        run_id=run_id,
        optimizer=recipe.optimizer.model_copy(update={"lr": trial.lr}),
        validation=recipe.validation.model_copy(update={"every_steps": max(1, len(steps) // 4)}),
        checkpoint_every_steps=recipe.checkpoint_every_steps,
    )
    result = Trainer(SupervisedMethod(model, schedule, tokenizer, recipe.shortcut), plan, run).run()
    shutil.rmtree(run)
    assert result.best_loss is not None, "every fold has rows to be judged by"
    return result.best_loss


def _run_id(recipe: Recipe, rows: TrainingRows) -> str:
    """What trials must share to be compared: the recipe, how it is searched, and the data."""
    return f"{recipe.fingerprint()}/{recipe.search.model_dump_json(exclude={'trials'})}/{rows.sha256()}"


def _read_log(path: Path, run_id: str) -> list[Trial]:
    """The whole lines of an earlier run. Raises RecipeError when it searched for another recipe or on other data."""
    if not path.exists():
        return []
    trials = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            row = json.loads(line)
            if row.pop("fingerprint") != run_id:
                raise RecipeError(
                    f"{path} is of another recipe or other data; delete it, or give another --out"
                )
            trials.append(Trial(**{**row, "losses": tuple(row["losses"])}))
    lines = [json.dumps({"fingerprint": run_id, **trial.to_json()}) + "\n" for trial in trials]
    path.write_text("".join(lines), encoding="utf-8")
    return trials
