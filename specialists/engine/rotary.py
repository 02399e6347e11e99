"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864), in the half-rotation form of the Qwen checkpoints."""

import torch
from torch import Tensor


class RotaryEmbedding:
    """Cosines and sines for positions 0 to `max_position` - 1, computed in float32 and kept in the model's type."""

    def __init__(
        self, head_dim: int, theta: float, max_position: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        angles = torch.arange(max_position, dtype=torch.float32)[:, None] / theta**exponents
        # [max_position, 1, head_dim / 2]: the middle dimension spreads over the heads
        self.cos = angles.cos().to(device=device, dtype=dtype).unsqueeze(1)
        self.sin = angles.sin().to(device=device, dtype=dtype).unsqueeze(1)
        self._last: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [num_tokens] -> cos and sin, each [num_tokens, 1, head_dim / 2]"""
        if self._last is None or self._last[0] is not positions:  # all layers of a step ask for the same ones
            self._last = positions, (self.cos[positions], self.sin[positions])
        return self._last[1]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [num_tokens, num_heads, head_dim] turned by its position's angles."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
