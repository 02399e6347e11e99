"""From a recipe to its reinforcement learning: the tasks' questions, what is held out, the student's engine."""

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specialists.evaluation.task_registry import get_task
from specialists.training.data import DataError
from specialists.training.grpo import GrpoMethod
from specialists.training.method_sections import Grpo
from specialists.training.rewards import Question
from specialists.training.rollout import Writer
from specialists.training.setting import Setting
from specialists.training.task_rows import load_items


def build_grpo(setting: Setting) -> tuple[GrpoMethod, dict[str, Any]]:
    """The method, and what the adapter's `training.json` says about its data. Raises TaskDataError, DataError."""
    recipe = setting.recipe
    assert recipe.grpo is not None, "the recipe was checked for it"
    questions = load_questions(recipe.grpo, setting.folders.data, recipe.seed)
    num_held_out = recipe.grpo.validation_items
    if len(questions) <= num_held_out:
        raise DataError(
            f"the tasks have {len(questions)} items, of which grpo.validation_items ({num_held_out}) are held out: "
            "none is left to train on"
        )
    validation, training = questions[:num_held_out], questions[num_held_out:]
    writer = Writer(setting.folders.base, setting.dtype, setting.folders.kernels, recipe.quantization)
    method = GrpoMethod(
        setting.model, writer, setting.tokenizer, recipe.grpo, training, validation, recipe.seed
    )
    digest = hashlib.sha256("".join(one.item.question for one in questions).encode()).hexdigest()
    return method, {
        "num_train_rows": len(training),
        "num_validation_rows": len(validation),
        "data_sha256": digest,
    }


def load_questions(settings: Grpo, folders: Sequence[Path], seed: int) -> list[Question]:
    """The training items of all tasks, shuffled together."""
    questions = []
    for name in settings.tasks:
        task = get_task(name, "train")
        questions += [Question(task, item) for item in load_items(task, folders, seed)]
    random.Random(seed).shuffle(questions)
    return questions
