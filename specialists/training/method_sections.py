"""The sections of a recipe that belong to one method, to the search for settings, or to the gate."""

from typing import Literal

from pydantic import Field, model_validator

from specialists.training.sections import BaseQuantization, Section


class Teacher(Section):
    """A model to learn from: "teacher", "default", a folder or a hub id, with its share among several teachers.

    `quantization` of its weights when it reads or writes; "int8" takes about half the time.
    """

    model: str = "teacher"
    weight: float = Field(1.0, gt=0)
    quantization: BaseQuantization = "none"


class LayerPair(Section):
    """The states behind the student's layer that shall follow those behind the teacher's; -1 is the last one."""

    student: int = Field(ge=-1)
    teacher: int = Field(ge=-1)


class Distill(Section):
    """What of the teachers is learned, on whose sequences.

    The loss of an answer's token is `answer_weight` times its cross-entropy, plus `logit_weight` times the divergence of
    the two distributions, plus `hidden_weight` times the distance of the hidden states. `top_k` of the teacher's tokens
    are kept, all the others as one. `sequences`: the data's own answers, answers the teachers write to the
    data's prompts, or answers the student writes as it learns (`sampling_*`, `max_new_tokens`).
    """

    teachers: tuple[Teacher, ...] = Field((Teacher(),), min_length=1)
    sequences: Literal["data", "teacher", "student"] = "data"
    answer_weight: float = Field(0.5, ge=0)
    logit_weight: float = Field(0.5, ge=0)
    hidden_weight: float = Field(0.0, ge=0)
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    beta: float = Field(0.5, gt=0, lt=1, description="the teacher's share in the mixture of the JSD")
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(32, ge=1, le=1024)
    layers: tuple[LayerPair, ...] = Field((LayerPair(student=-1, teacher=-1),), min_length=1)
    sampling_temperature: float = Field(1.0, ge=0, le=2)
    max_new_tokens: int = Field(256, ge=1)

    @model_validator(mode="after")
    def _something_to_learn(self) -> "Distill":
        if self.logit_weight == 0 and self.hidden_weight == 0:
            raise ValueError("logit_weight and hidden_weight are both 0: nothing of the teacher is learned")
        if self.sequences == "student" and self.answer_weight > 0:
            raise ValueError(
                'answer_weight must be 0 with sequences = "student": its own answers are no examples'
            )
        return self


class Grpo(Section):
    """Group-relative policy optimisation on the training split of evaluation tasks (arXiv:2402.03300).

    A step asks `prompts_per_step` items `num_generations` times each. An answer's reward is the weighted sum of: right,
    in the asked form, and short (1 up to `length_budget` tokens, 0 when it was cut), all by the tasks' own graders. The
    task's own prompt is used, or the question (behind its context, if any) with `instruction`, such as to reason before the
    answer. `beta` weighs the divergence from the base.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    instruction: str | None = None
    steps: int = Field(100, ge=1)
    prompts_per_step: int = Field(8, ge=1)
    num_generations: int = Field(8, ge=2)
    max_new_tokens: int = Field(256, ge=2)
    temperature: float = Field(1.0, gt=0, le=2)
    beta: float = Field(0.02, ge=0)
    correct_weight: float = Field(1.0, ge=0)
    form_weight: float = Field(0.2, ge=0)
    length_weight: float = Field(0.1, ge=0)
    length_budget: int = Field(128, ge=1)
    validation_items: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _budget_fits(self) -> "Grpo":
        if self.length_budget >= self.max_new_tokens:
            raise ValueError(
                f"length_budget ({self.length_budget}) must be below max_new_tokens ({self.max_new_tokens})"
            )
        return self


class Search(Section):
    """What a random search may change, and on how much data; ranges are searched on a logarithmic scale."""

    trials: int = Field(8, ge=1)
    share: float = Field(0.03, gt=0, le=1)
    folds: int = Field(2, ge=2)
    lr: tuple[float, float] = (5e-5, 1e-3)
    rank: tuple[int, ...] = Field((4, 8, 16), min_length=1)
    step_tokens: tuple[int, ...] = Field((1024, 2048, 4096), min_length=1)
    epochs: tuple[int, ...] = Field((1, 2), min_length=1)


class Gate(Section):
    """What a specialist must show before it enters the catalog; all on evaluation rows.

    `own` tasks together must gain, the lower end of the paired bootstrap above `min_gain`; no task of `others` may
    lose more than `tolerance` (both as shares, 0.01 is a point). `limit` items of each task are asked. `exception` lets a
    specialist pass that does not, and is recorded in its card and manifest.
    """

    own: tuple[str, ...] = Field(min_length=1)
    others: tuple[str, ...] = ()
    min_gain: float = 0.0
    tolerance: float = Field(0.02, ge=0)
    limit: int | None = Field(None, ge=1)
    others_limit: int | None = Field(None, ge=1)
    exception: str | None = Field(None, min_length=10)
