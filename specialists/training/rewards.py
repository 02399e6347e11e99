"""What an answer is worth in reinforcement learning: the evaluation's own grade, and its length."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from specialists.engine.llm_engine import Completion
from specialists.engine.output import FinishReason
from specialists.evaluation.task import Item, Message, Task
from specialists.training.method_sections import Grpo

_EPSILON = 1e-4  # rewards this near together say nothing


@dataclass(frozen=True, slots=True)
class Question:
    """One item to ask, with the task that grades it."""

    task: Task[Item]
    item: Item

    def messages(self, instruction: str | None) -> list[Message]:
        if instruction is None:
            return self.task.prompt(self.item)
        parts = [getattr(self.item, "context", ""), self.item.question, instruction]
        return [{"role": "user", "content": "\n\n".join(part for part in parts if part)}]


@dataclass(frozen=True, slots=True)
class Reward:
    """The parts of one answer's reward, each from 0 to 1, and their weighted sum."""

    correct: float
    form: float
    length: float
    total: float


def reward(question: Question, answer: Completion, settings: Grpo) -> Reward:
    """Correctness is the task's score: 1 or 0, or partial credit where its metric gives some."""
    grade = question.task.grade(question.item, answer.text)
    correct, form = grade.score, float(grade.well_formed)
    length = _length_reward(answer, settings)
    total = settings.correct_weight * correct + settings.form_weight * form + settings.length_weight * length
    return Reward(correct, form, length, total)


def _length_reward(answer: Completion, settings: Grpo) -> float:
    if answer.finish_reason is FinishReason.LENGTH:
        return 0.0
    over = max(0, len(answer.token_ids) - settings.length_budget)
    return 1.0 - over / (settings.max_new_tokens - settings.length_budget)


def advantages(rewards: Sequence[float]) -> list[float]:
    """How much better each answer of one group is than the group, in standard deviations; zeros when all are alike."""
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    if deviation < _EPSILON:
        return [0.0] * len(rewards)
    return [(one - mean) / deviation for one in rewards]
