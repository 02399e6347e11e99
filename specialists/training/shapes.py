"""Few different sizes: oneDNN compiles a kernel for each new shape of a product, and keeps it.

Packs of every possible length would spend a tenth of the time compiling and grow by tens of MB a step (measured
here), so sizes that vary from pack to pack are rounded up with rows that change nothing.
"""

import torch
from torch import Tensor

TOKEN_MULTIPLE = 64  # rows of a pack
ATTENTION_MULTIPLE = 32  # queries and keys of a segment
TARGET_MULTIPLE = 32  # rows that go through the head


def round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def pad_rows(tensor: Tensor, size: int, dim: int) -> Tensor:
    """The tensor with zeros appended until it has `size` entries along `dim`."""
    missing = size - tensor.shape[dim]
    if missing == 0:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=dim)
