"""Hidden states of a teacher as a target for those of the student: projected to its width, compared by MSE.

Both sides are divided by their root mean square first, as a few large activations would decide everything otherwise. The
projection is trained along and thrown away. It begins as the best linear map from the teacher's states to those of
the untrained student: a random one would pull the student towards noise until it was learned.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_RIDGE = 1e-2
_EPSILON = 1e-6


class Projections:
    """One map for each pair of layers of one teacher: [teacher's width] -> [student's width]."""

    def __init__(self, name: str, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        """`student` and `teacher`: for each pair [num_rows, width], what the untrained models say of the same rows."""
        self._name = name
        self._maps = [nn.Parameter(_fit(one, other)) for one, other in zip(student, teacher, strict=True)]

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return {f"projection.{self._name}.{index}": one for index, one in enumerate(self._maps)}

    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The mean over pairs of the sum over rows of the mean squared distance, a float32 scalar."""
        distances = [
            (_scaled(own) - _scaled(other) @ projection.t()).square().mean(1).sum()
            for own, other, projection in zip(student, teacher, self._maps, strict=True)
        ]
        return torch.stack(distances).mean()


def _scaled(states: Tensor) -> Tensor:
    wide = states.float()
    return wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + _EPSILON)


def _fit(student: Tensor, teacher: Tensor) -> Tensor:
    """Ridge regression of the student's states on the teacher's: [student's width, teacher's width]."""
    x, y = _scaled(teacher), _scaled(student)
    gram = x.t() @ x
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    solution: Tensor = torch.linalg.solve(gram, x.t() @ y)
    return solution.t().contiguous()
