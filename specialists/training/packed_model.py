"""A causal model of transformers run on packs: one row of tokens, attention by segments, no cache, no mask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from specialists.training.attention import register_packed_attention
from specialists.training.frozen_weights import freeze_weight
from specialists.training.packing import Pack, Segment
from specialists.training.sections import BaseQuantization
from specialists.training.shapes import TOKEN_MULTIPLE, pad_rows, round_up


def load_causal_model(folder: Path, dtype: torch.dtype) -> Any:
    """Raises OSError naming the folder when there is no model."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=register_packed_attention(), local_files_only=True
    )


def run_body(
    body: Any, token_ids: Tensor, position_ids: Tensor, segments: Sequence[Segment], every_layer: bool = False
) -> tuple[Tensor, ...]:
    """token_ids, position_ids: [num_tokens] -> the last hidden states, normed, [num_tokens, hidden_size]; with
    `every_layer` those behind the embeddings and behind each layer, of which the last are the normed ones.
    """
    num_tokens = len(token_ids)
    size = round_up(num_tokens, TOKEN_MULTIPLE)
    if size > num_tokens:
        # The padding is a segment of its own: nobody attends to it.
        segments = [*segments, Segment(num_tokens, size, num_tokens, num_tokens)]
    output = body(
        input_ids=pad_rows(token_ids, size, dim=0).unsqueeze(0),
        position_ids=pad_rows(position_ids, size, dim=0).unsqueeze(0),
        # A dictionary is taken as ready-made masks: ours are in the segments.
        attention_mask={"full_attention": None, "sliding_attention": None},
        use_cache=False,
        segments=segments,
        output_hidden_states=every_layer,
    )
    states = output.hidden_states if every_layer else (output.last_hidden_state,)
    return tuple(one[0, :num_tokens] for one in states)


def _quantize(module: nn.Linear, quantization: BaseQuantization, kernel_folder: Path | None) -> None:
    """Put the quantised product in the place of the linear's own."""
    weight = freeze_weight(module.weight, quantization, kernel_folder, only_read=True)
    bias = module.bias
    module.weight = nn.Parameter(module.weight.new_empty(0), requires_grad=False)

    def forward(x: Tensor) -> Tensor:
        return weight.product(x.reshape(-1, x.shape[-1]), bias).view(*x.shape[:-1], -1)

    module.forward = forward  # type: ignore[assignment,method-assign]


class FrozenModel:
    """A model that only reads: a teacher, or a base to stay near to. `kernel_folder`: as the engine's."""

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.bfloat16,
        quantization: BaseQuantization = "none",
        kernel_folder: Path | None = None,
    ) -> None:
        causal = load_causal_model(folder, dtype).requires_grad_(False).eval()
        self._body = causal.model
        if quantization != "none":
            for module in self._body.layers.modules():
                if isinstance(module, nn.Linear):
                    _quantize(module, quantization, kernel_folder)
        self.head: Tensor = causal.lm_head.weight  # [vocab_size, hidden_size]
        self.num_layers: int = causal.config.num_hidden_layers

    def layer_states(self, pack: Pack) -> tuple[Tensor, ...]:
        """[num_loss_positions, width] behind the embeddings and behind each layer, at the pack's loss positions."""
        positions = torch.tensor(pack.loss_positions)
        with torch.inference_mode():
            states = run_body(
                self._body,
                torch.tensor(pack.token_ids),
                torch.tensor(pack.position_ids),
                pack.segments,
                every_layer=True,
            )
            return tuple(one.index_select(0, positions) for one in states)
