"""How far two next-token distributions are apart, of which only some tokens are known one by one.

The teacher's `top_k` tokens keep their probabilities; all other tokens are one more outcome. That makes two
proper distributions over k + 1 outcomes, so each divergence is exact for them and never negative.
"""

import torch
from torch import Tensor

from specialists.training.method_sections import Distill

_SMALLEST = 1e-6  # of the probability of all other tokens: its logarithm must have a gradient


def with_rest(log_probabilities: Tensor) -> Tensor:
    """[rows, k] log-probabilities -> [rows, k + 1] with that of everything else."""
    known = torch.logsumexp(log_probabilities, dim=1, keepdim=True).clamp_max(-_SMALLEST)
    rest = torch.log(-torch.expm1(known))
    return torch.cat([log_probabilities, rest], dim=1)


def divergence(teacher: Tensor, student: Tensor, settings: Distill) -> Tensor:
    """The sum over rows of the asked divergence of two [rows, outcomes] log-probabilities, a scalar.

    forward_kl is KL(teacher || student), reverse_kl the other way round; jsd is beta * KL(teacher || m) +
    (1 - beta) * KL(student || m) with m = beta * teacher + (1 - beta) * student (GKD, arXiv:2306.13649).
    """
    if settings.divergence == "forward_kl":
        return _kl(teacher, student)
    if settings.divergence == "reverse_kl":
        return _kl(student, teacher)
    beta = torch.tensor(settings.beta)
    mixture = torch.logaddexp(teacher + beta.log(), student + (1 - beta).log())
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    return (first.exp() * (first - second)).sum()


class TeacherTerm:
    """The divergence of the rows from one teacher, times the square of the temperature and `weight`.

    ids: [rows, k] the teacher's most likely tokens, log_probabilities: [rows, k] at the settings' temperature.
    """

    def __init__(self, ids: Tensor, log_probabilities: Tensor, settings: Distill, weight: float) -> None:
        self.ids = ids
        self.temperature = settings.temperature
        self._teacher = with_rest(log_probabilities.float())
        self._settings = settings
        # Gradients shrink with the square of the temperature (Hinton et al., arXiv:1503.02531).
        self._scale = weight * settings.temperature**2

    def loss(self, log_probabilities: Tensor, rows: slice) -> Tensor:
        student = with_rest(log_probabilities)
        return self._scale * divergence(self._teacher[rows], student, self._settings)
