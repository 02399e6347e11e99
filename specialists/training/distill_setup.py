"""From a recipe to its distillation: find the teachers, have them write and read, put the method together."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from specialists.base_model import base_sha256
from specialists.training.data import DataError, PromptGroup
from specialists.training.distill import DistillMethod, Source, Watch, WritePacks
from specialists.training.method_sections import Teacher
from specialists.training.packing import Pack, pack_groups
from specialists.training.recipe import Recipe
from specialists.training.rollout import Writer, draw_seed
from specialists.training.rows import TrainingRows
from specialists.training.setting import Setting
from specialists.training.sft import Schedule, build_schedule
from specialists.training.shortcut import label_tokens
from specialists.training.teacher import LoadedTeacher, find_teacher
from specialists.training.teacher_answers import TeacherAnswers, answered
from specialists.training.teacher_cache import TeacherCache, cache_folders


def build_distillation(setting: Setting, rows: TrainingRows) -> DistillMethod:
    """Raises TeacherError, TeacherCacheError, DataError."""
    recipe, settings = setting.recipe, setting.recipe.distill
    teachers = [(one, find_teacher(one, setting.tokenizer, setting.find_model)) for one in settings.teachers]
    rewrite = _teachers_write(setting, teachers) if settings.sequences == "teacher" else lambda groups: groups
    schedule = build_schedule(recipe.batching, recipe.seed, rows, setting.tokenizer, rewrite)
    if settings.sequences == "student":
        sources = [
            Source(str(index), one.weight, _load(setting, one, folder).teach)
            for index, (one, folder) in enumerate(teachers)
        ]
        return DistillMethod(setting.model, schedule, settings, sources, write=_student_writes(setting))
    sources = [
        Source(str(index), one.weight, _read_all(setting, one, folder, schedule).lesson)
        for index, (one, folder) in enumerate(teachers)
    ]
    watch = None
    if recipe.shortcut is not None:
        watch = Watch(label_tokens(setting.tokenizer, recipe.shortcut.labels), recipe.shortcut)
    return DistillMethod(setting.model, schedule, settings, sources, watch=watch)


def _load(setting: Setting, teacher: Teacher, folder: Path) -> LoadedTeacher:
    return LoadedTeacher(
        folder,
        setting.recipe.distill,
        len(setting.model.head),
        setting.dtype,
        teacher.quantization,
        setting.folders.kernels,
    )


def _identity(teacher: Teacher, folder: Path) -> str:
    """Different wherever it might say something else."""
    model = base_sha256(folder) or str(folder.resolve())
    return model if teacher.quantization == "none" else f"{model}/{teacher.quantization}"


def _read_all(setting: Setting, teacher: Teacher, folder: Path, schedule: Schedule) -> TeacherCache:
    """One teacher at a time, so that only one is ever in memory."""
    identity = _identity(teacher, folder)
    cache = TeacherCache(cache_folders(setting.folders.run, identity, setting.recipe.distill))
    groups = [group for step in schedule.steps for pack in step for group in pack.groups]
    cache.fill(groups, setting.recipe.batching.pack_tokens, lambda: _load(setting, teacher, folder).teach)
    return cache


def _teachers_write(
    setting: Setting, teachers: Sequence[tuple[Teacher, Path]]
) -> Callable[[Sequence[PromptGroup]], Sequence[PromptGroup]]:
    recipe, settings = setting.recipe, setting.recipe.distill

    def rewrite(groups: Sequence[PromptGroup]) -> Sequence[PromptGroup]:
        written = []
        for teacher, folder in teachers:
            answers = TeacherAnswers(setting.folders.run / _answers_name(_identity(teacher, folder), recipe))

            def load(teacher: Teacher = teacher, folder: Path = folder) -> Writer:
                return Writer(folder, setting.dtype, setting.folders.kernels, teacher.quantization)

            answers.fill(groups, load, settings.max_new_tokens, settings.sampling_temperature, recipe.seed)
            written.append(answers)
        result = answered(groups, written)
        if not result:
            raise DataError(f"no answer of the teachers ended within {settings.max_new_tokens} tokens")
        return result

    return rewrite


def _answers_name(teacher: str, recipe: Recipe) -> str:
    """A file name that differs whenever other answers would be written."""
    settings = recipe.distill
    what = json.dumps([teacher, settings.max_new_tokens, settings.sampling_temperature, recipe.seed])
    return f"teacher-answers-{hashlib.sha256(what.encode()).hexdigest()[:12]}.jsonl"


def _student_writes(setting: Setting) -> WritePacks:
    recipe, settings = setting.recipe, setting.recipe.distill
    writer = Writer(setting.folders.base, setting.dtype, setting.folders.kernels, recipe.quantization)

    def write(packs: Sequence[Pack], step: int) -> Sequence[Pack]:
        writer.follow(setting.model)
        prompts = [group.prompt_ids for pack in packs for group in pack.groups]
        seeds = [draw_seed(recipe.seed, step, index) for index in range(len(prompts))]
        answers = writer.write(prompts, settings.max_new_tokens, settings.sampling_temperature, seeds)
        groups = [
            PromptGroup(prompt, (answer.token_ids,)) for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return pack_groups(groups, recipe.batching.pack_tokens, seed=step)

    return write
