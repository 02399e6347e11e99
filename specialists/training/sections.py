"""The sections of a recipe that every method shares: adapter, data, optimizer, batches, validation.

pydantic, because recipes come from outside. An unknown key is an error, never a silent default.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
BaseQuantization = Literal["none", "int8", "bnb-nf4", "bnb-int8"]

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A part of a recipe: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Section):
    """The adapter's shape. Layers below `first_layer` stay untouched, without a backward pass.

    `start` is the folder of an adapter of this shape to begin with, absolute or below a data folder; else a new one.
    """

    rank: int = Field(8, ge=1, le=64)
    alpha: float = Field(16.0, gt=0)
    targets: tuple[Target, ...] = Field(ALL_TARGETS, min_length=1)
    use_rslora: bool = False
    first_layer: int = Field(0, ge=0)
    start: str | None = None


class Source(Section):
    """Where rows come from: a .jsonl(.gz) file, or the training split of an evaluation task.

    `path` is relative to a data folder. A row is `{"messages": [...]}` ending with the assistant's answer, or
    `{"completion": ...}` with the fields that `templates` name, such as `{question}` and `{prompt}`. A template is
    drawn for each problem and epoch. `task` takes the task's own prompt and, as the answer, its reference in the asked
    form; the options of multiple choice are shuffled anew for each epoch. Its templates may name `{question}`, `{prompt}`,
    and of multiple choice `{options}` (the list with its letters) and `{answer}` (the right option's text).
    """

    path: str | None = None
    task: str | None = None
    split: Literal["train", "val"] = "train"
    templates: tuple[str, ...] = Field(("{prompt}",), min_length=1)
    max_rows: int | None = Field(None, ge=1)
    max_per_problem: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> "Source":
        if (self.path is None) == (self.task is None):
            raise ValueError("expected either path or task")
        if self.path is not None and "split" in self.model_fields_set:
            raise ValueError("split belongs to a task; a file has none")
        return self


class Optimizer(Section):
    """AdamW with linear warm-up and cosine decay to `final_lr_share` of the peak; `eight_bit`: bitsandbytes' moments."""

    lr: float = Field(2e-4, gt=0)
    final_lr_share: float = Field(0.1, ge=0, le=1)
    warmup_share: Share = 0.05
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    max_grad_norm: float = Field(1.0, gt=0)
    eight_bit: bool = False


class Batching(Section):
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


class Validation(Section):
    """A share of the problems is kept out of training. `patience` looks without a gain end the run, which keeps the best
    weights. With `keep = "last"` the looks are told and decide nothing: for a second pass over what the first has partly
    seen, whose first look no later one can beat.
    """

    share: Share = 0.03
    max_rows: int = Field(100, ge=1)
    every_steps: int = Field(40, ge=1)
    patience: int = Field(3, ge=1)
    keep: Literal["best", "last"] = "best"


class Pretask(Section):
    """The first stage of a two-stage run; its best weights are where the recipe's own stage begins."""

    sources: tuple[Source, ...] = Field(min_length=1)
    optimizer: Optimizer = Optimizer()
    batching: Batching = Batching()


class Shortcut(Section):
    """Against a favourite answer letter. For each pack, the mean of the predicted shares of `labels` is compared with
    the shares of the right answers; what of the divergence is beyond `tolerance` (nats) costs `weight` times itself
    a question. Twenty questions with even right answers diverge by 0.08 by chance; always the same letter is 0.7 and more.

    For the first `centered` of the steps (a share) a choice is learned from what each letter scores beyond its mean over the
    pack's questions with the same letters, so that a favourite has no part in the gradient: else the optimizer chases
    it from letter to letter. The steps that remain, at a low rate, set the letters against each other.
    """

    labels: tuple[str, ...] = Field(("A", "B", "C", "D", "E"), min_length=2)
    weight: float = Field(1.0, gt=0)
    tolerance: float = Field(0.15, ge=0)
    centered: float = Field(0.0, ge=0, le=1)


class Declaration(Section):
    """What the adapter's manifest says about itself beyond what the run knows."""

    description: str = ""
    intent: str | None = None
    examples: tuple[str, ...] = ()
