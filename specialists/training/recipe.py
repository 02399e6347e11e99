"""What a recipe file may say: everything that decides a training run, except where files are.

TOML, read by pydantic. Unknown keys are errors that name the nearest known one.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from specialists.manifest import NAME_PATTERN
from specialists.training.method_sections import Distill, Gate, Grpo, Search
from specialists.training.sections import (
    BaseQuantization,
    Batching,
    Declaration,
    Lora,
    Optimizer,
    Pretask,
    Section,
    Shortcut,
    Source,
    Validation,
)

# What does not change the weights: a checkpoint is continued whatever they say.
_WITHOUT_EFFECT = {"manifest", "gate", "search", "checkpoint_every_steps"}


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file and every wrong key."""


class Recipe(Section):
    """One training run. `base` is the model's name, for the reader; the folder is given to the command."""

    name: str = Field(pattern=NAME_PATTERN.pattern)
    base: str
    seed: int = Field(ge=0)
    method: Literal["sft", "distill", "grpo"] = "sft"
    sources: tuple[Source, ...] = ()
    quantization: BaseQuantization = "none"
    lora: Lora = Lora()
    optimizer: Optimizer = Optimizer()
    batching: Batching = Batching()
    validation: Validation = Validation()
    checkpoint_every_steps: int = Field(20, ge=1)
    pretask: Pretask | None = None
    shortcut: Shortcut | None = None
    distill: Distill = Distill()
    grpo: Grpo | None = None
    search: Search = Search()
    gate: Gate | None = None
    manifest: Declaration = Declaration()

    @model_validator(mode="after")
    def _has_what_its_method_needs(self) -> "Recipe":
        if self.method == "grpo" and self.grpo is None:
            raise ValueError('method = "grpo" needs the section [grpo] with its tasks')
        if self.method != "grpo" and not self.sources:
            raise ValueError(f'method = "{self.method}" needs at least one [[sources]]')
        if self.method == "grpo" and (self.sources or self.shortcut):
            raise ValueError('method = "grpo" takes its prompts from grpo.tasks; remove sources and shortcut')
        if self.method == "distill" and self.shortcut is not None:
            self._check_watched_distillation()
        if self.method != "distill" and "distill" in self.model_fields_set:
            raise ValueError(f'[distill] has no effect with method = "{self.method}"')
        if self.method != "grpo" and self.grpo is not None:
            raise ValueError(f'[grpo] has no effect with method = "{self.method}"')
        return self

    def _check_watched_distillation(self) -> None:
        settings = self.distill
        if settings.sequences == "student":
            raise ValueError(
                '[shortcut] knows the data\'s right letters; distill.sequences = "student" has none'
            )
        plain = settings.divergence == "forward_kl" and settings.temperature == 1
        if self.shortcut and self.shortcut.centered and settings.logit_weight and not plain:
            raise ValueError(
                "shortcut.centered corrects the forward divergence at temperature 1; found distill.divergence = "
                f'"{settings.divergence}" at temperature {settings.temperature:g}'
            )

    def fingerprint(self) -> str:
        """Identity of the run's settings: a checkpoint is continued only under the same ones."""
        return hashlib.sha256(self.model_dump_json(exclude=_WITHOUT_EFFECT).encode()).hexdigest()


def read_recipe(path: Path) -> Recipe:
    """Raises RecipeError naming the file and each unknown, missing or wrong key."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_explain(item["type"], item["loc"], item["msg"]) for item in error.errors())
        raise RecipeError(f"{path}: {problems}") from error


def _explain(kind: str, place: Sequence[int | str], message: str) -> str:
    name = ".".join(map(str, place)) or "recipe"
    if kind != "extra_forbidden":
        return f"{name}: {message.removeprefix('Value error, ')}"
    known = list(_section_at(place[:-1]).model_fields)
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    return f"unknown key {name}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def _section_at(place: Sequence[int | str]) -> type[BaseModel]:
    """The section class that a location in the file belongs to."""
    section: type[BaseModel] = Recipe
    for key in place:
        if isinstance(key, str):
            section = _section_in(section.model_fields[key].annotation)
    return section


def _section_in(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_section_in(part) for part in get_args(annotation) if part not in (type(None), ...))
