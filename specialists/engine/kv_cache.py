"""The keys and values of all sequences, in blocks. Which block is whose is `block_manager`'s business."""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of `num_layers` layers in `num_blocks` blocks of `block_size` tokens.

    Heads come first, so that gathering the blocks of a batch copies whole blocks and gives, per head, tokens in order.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_heads: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.block_size = block_size
        # [num_layers, num_heads, num_blocks, block_size, head_dim]; zeros, since masked-out places are still multiplied
        shape = (num_layers, num_heads, num_blocks, block_size, head_dim)
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self._layers = [
            (keys, values, keys.flatten(1, 2), values.flatten(1, 2))
            for keys, values in zip(self._keys, self._values, strict=True)
        ]

    @property
    def num_bytes(self) -> int:
        return 2 * self._keys.numel() * self._keys.element_size()

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [num_tokens, num_heads, head_dim] at `places` [num_tokens] (block * block_size + offset)."""
        _, _, flat_keys, flat_values = self._layers[layer]
        flat_keys.index_copy_(1, places, keys.transpose(0, 1))
        flat_values.index_copy_(1, places, values.transpose(0, 1))

    def gather(self, layer: int, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of some blocks [n], each as [num_heads, n * block_size, head_dim]."""
        keys, values, _, _ = self._layers[layer]
        return keys.index_select(1, blocks).flatten(1, 2), values.index_select(1, blocks).flatten(1, 2)

    def pointers(self, layer: int) -> tuple[int, int, int]:
        """For the native kernels: addresses of the layer's keys and values, and the elements from one head to the next."""
        keys, values, _, _ = self._layers[layer]
        return keys.data_ptr(), values.data_ptr(), keys.stride(0)
