"""What a recipe file may say: everything that decides a training run, except where files are.

TOML, read by pydantic. Unknown keys are errors, so that a misspelt setting is never a silent default.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from specialists.manifest import NAME_PATTERN

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ALL_TARGETS: tuple[Target, ...] = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file and every wrong key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(_Section):
    """The adapter's shape. Layers below `first_layer` stay untouched, without a backward pass."""

    rank: int = Field(8, ge=1, le=64)
    alpha: float = Field(16.0, gt=0)
    targets: tuple[Target, ...] = Field(ALL_TARGETS, min_length=1)
    use_rslora: bool = False
    first_layer: int = Field(0, ge=0)


class Source(_Section):
    """One .jsonl(.gz) file of rows, its path relative to a data folder.

    A row is `{"messages": [...]}` ending with the assistant's answer, or `{"completion": ...}` with the
    fields that `templates` name, such as `{question}` and `{prompt}`. A template is drawn for each problem
    and epoch.
    """

    path: str
    templates: tuple[str, ...] = Field(("{prompt}",), min_length=1)
    max_rows: int | None = Field(None, ge=1)
    max_per_problem: int | None = Field(None, ge=1)


class Optimizer(_Section):
    """AdamW with linear warm-up and cosine decay to `final_lr_share` of the peak."""

    lr: float = Field(2e-4, gt=0)
    final_lr_share: float = Field(0.1, ge=0, le=1)
    warmup_share: Share = 0.05
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    max_grad_norm: float = Field(1.0, gt=0)


class Batching(_Section):
    """Sizes in tokens. One step gathers packs of at most `pack_tokens` until `step_tokens` are together."""

    epochs: int = Field(2, ge=1)
    step_tokens: int = Field(8192, ge=1)
    pack_tokens: int = Field(1536, ge=1)
    max_seq_len: int = Field(768, ge=8)
    max_steps: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "Batching":
        if self.max_seq_len > self.pack_tokens:
            raise ValueError(
                f"max_seq_len ({self.max_seq_len}) must not exceed pack_tokens ({self.pack_tokens})"
            )
        return self


class Validation(_Section):
    """A share of the problems is kept out of training. `patience` looks without a gain end the run."""

    share: Share = 0.03
    max_rows: int = Field(100, ge=1)
    every_steps: int = Field(40, ge=1)
    patience: int = Field(3, ge=1)


class Declaration(_Section):
    """What the adapter's manifest says about itself beyond what the run knows."""

    description: str = ""
    intent: str | None = None
    examples: tuple[str, ...] = ()


class Recipe(_Section):
    """One training run. `base` is the model's name, for the reader; the folder is given to the command."""

    name: str = Field(pattern=NAME_PATTERN.pattern)
    base: str
    seed: int = Field(ge=0)
    sources: tuple[Source, ...] = Field(min_length=1)
    lora: Lora = Lora()
    optimizer: Optimizer = Optimizer()
    batching: Batching = Batching()
    validation: Validation = Validation()
    checkpoint_every_steps: int = Field(20, ge=1)
    manifest: Declaration = Declaration()

    def fingerprint(self) -> str:
        """Identity of the run's settings: a checkpoint is continued only under the same ones."""
        return hashlib.sha256(self.model_dump_json(exclude={"manifest"}).encode()).hexdigest()


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
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in error.errors()
        )
        raise RecipeError(f"{path}: {problems}") from error
