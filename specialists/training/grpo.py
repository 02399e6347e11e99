"""GRPO: the student answers each question several times; what beats its group is made likelier (arXiv:2402.03300).

One update for each batch of answers, so the policy that wrote them is the one that is updated and no clipping is needed.
Groups whose answers are all worth the same teach nothing and are left out.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from specialists.engine.llm_engine import Completion
from specialists.tokenizer import ChatTokenizer
from specialists.training.data import PromptGroup
from specialists.training.lora import TrainableModel
from specialists.training.losses import chunked_row_loss
from specialists.training.method import Batch, pack_part
from specialists.training.method_sections import Grpo
from specialists.training.packing import Pack, build_pack
from specialists.training.rewards import Question, Reward, advantages, reward
from specialists.training.rollout import Writer, draw_seed


class PolicyTerm:
    """-advantage * log-probability of each written token, plus beta times an estimate of KL(policy || base).

    targets, advantages, reference: [num_rows]; `reference` holds the base's log-probabilities of the targets. The
    estimate is exp(d) - d - 1 with d = reference - policy, which is unbiased and never negative.
    """

    def __init__(
        self, targets: Tensor, advantages: Tensor, reference: Tensor, beta: float, temperature: float
    ) -> None:
        self.ids = targets.unsqueeze(1)
        self.temperature = temperature
        self._advantages, self._reference, self._beta = advantages, reference, beta

    def loss(self, log_probabilities: Tensor, rows: slice) -> Tensor:
        policy = log_probabilities[:, 0]
        difference = self._reference[rows] - policy
        kl = difference.exp() - difference - 1.0
        return (self._beta * kl - self._advantages[rows] * policy).sum()


class LogProbabilityReader:
    """A term that costs nothing and notes the log-probabilities of its targets [num_rows]."""

    def __init__(self, targets: Tensor, temperature: float) -> None:
        self.ids = targets.unsqueeze(1)
        self.temperature = temperature
        self.values = torch.empty(len(targets))

    def loss(self, log_probabilities: Tensor, rows: slice) -> Tensor:
        self.values[rows] = log_probabilities[:, 0].detach()
        return log_probabilities.new_zeros(())


def read_base(model: TrainableModel, pack: Pack, temperature: float = 1.0) -> Tensor:
    """The log-probabilities that the base without its adapter gives the pack's targets, [num_targets]."""
    reader = LogProbabilityReader(torch.tensor(pack.targets), temperature)
    with model.adapter_off():
        chunked_row_loss(model.predicting_states(pack), model.head, (reader,))
    return reader.values


@dataclass(frozen=True, slots=True)
class _Group:
    """All answers to one question, with their rewards."""

    prompt_ids: tuple[int, ...]
    answers: Sequence[Completion]
    rewards: Sequence[Reward]


class GrpoMethod:
    """Asks `questions` in a random order, over and over, for the settings' number of steps."""

    def __init__(
        self,
        model: TrainableModel,
        writer: Writer,
        tokenizer: ChatTokenizer,
        settings: Grpo,
        questions: Sequence[Question],
        validation: Sequence[Question],
        seed: int,
    ) -> None:
        self._model = model
        self._writer = writer
        self._tokenizer = tokenizer
        self._settings = settings
        self._questions = questions
        self._validation = validation
        self._seed = seed

    @property
    def num_steps(self) -> int:
        return self._settings.steps

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self._model.parameters

    def batch(self, step: int) -> Batch:
        start = step * self._settings.prompts_per_step
        places = range(start, start + self._settings.prompts_per_step)
        questions = [self._questions[place % len(self._questions)] for place in places]
        groups = self._ask(questions, self._settings.num_generations, self._settings.temperature, step)
        parts = []
        for group in groups:
            weights = advantages([one.total for one in group.rewards])
            if any(weights):
                pack = build_pack(
                    [PromptGroup(group.prompt_ids, tuple(one.token_ids for one in group.answers))]
                )
                parts.append(pack_part(pack, partial(self._loss, pack, weights)))
        return Batch(parts, _describe(groups))

    def validate(self) -> float | None:
        """The mean reward of greedy answers, negated."""
        groups = self._ask(self._validation, 1, 0.0, 0)
        return -statistics.fmean(group.rewards[0].total for group in groups)

    def _ask(
        self, questions: Sequence[Question], num_generations: int, temperature: float, step: int
    ) -> list[_Group]:
        self._writer.follow(self._model)
        asked = [self._tokenizer.encode_chat(one.messages(self._settings.instruction)) for one in questions]
        prompts = [prompt for prompt in asked for _ in range(num_generations)]
        seeds = [draw_seed(self._seed, step, index) for index in range(len(prompts))]
        answers = self._writer.write(prompts, self._settings.max_new_tokens, temperature, seeds)
        groups = []
        for index, (question, prompt) in enumerate(zip(questions, asked, strict=True)):
            own = answers[index * num_generations : (index + 1) * num_generations]
            groups.append(_Group(tuple(prompt), own, [reward(question, one, self._settings) for one in own]))
        return groups

    def _loss(self, pack: Pack, weights: Sequence[float]) -> Tensor:
        targets = torch.tensor(pack.targets)
        lengths = [len(answer) for group in pack.groups for answer in group.answers]
        weight = torch.repeat_interleave(torch.tensor(weights), torch.tensor(lengths))
        reference = torch.zeros(len(targets))
        if self._settings.beta:
            reference = read_base(self._model, pack, self._settings.temperature)
        term = PolicyTerm(targets, weight, reference, self._settings.beta, self._settings.temperature)
        return chunked_row_loss(self._model.predicting_states(pack), self._model.head, (term,))


def _describe(groups: Sequence[_Group]) -> dict[str, float]:
    """A step's metrics: the means of the rewards and of the answers' lengths."""
    rewards = [one for group in groups for one in group.rewards]
    answers = [one for group in groups for one in group.answers]
    return {
        "reward": round(statistics.fmean(one.total for one in rewards), 4),
        "correct": round(statistics.fmean(one.correct for one in rewards), 4),
        "well_formed": round(statistics.fmean(one.form for one in rewards), 4),
        "answer_tokens": round(statistics.fmean(len(one.token_ids) for one in answers), 1),
    }
