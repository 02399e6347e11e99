"""LoRA on a frozen base for training: PEFT makes and names the parameters, one fused function runs them.

PEFT's own forward adds the low-rank product to the base's output in extra passes over memory and autograd
keeps more than is needed. Here the product is accumulated by the matrix multiplication itself, forward and
backward; the result is PEFT's up to rounding. What is saved is PEFT's format.
"""

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from specialists.training.attention import register_packed_attention
from specialists.training.packing import Segment
from specialists.training.recipe import Lora
from specialists.training.shapes import TOKEN_MULTIPLE, pad_rows, round_up

_ADAPTER = "default"


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + bias + scaling * (x A^T) B^T for a frozen W.

    x: [num_tokens, in], weight: [out, in], a: [rank, in], b: [out, rank] -> [num_tokens, out].
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        output = torch.nn.functional.linear(x, weight, bias)
        low = x @ a.t()  # [num_tokens, rank]
        output.addmm_(low, b.t(), alpha=scaling)
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scaling = scaling
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, weight, a, b, low = ctx.saved_tensors
        (grad,) = grads
        grad_low = (grad @ b).mul_(ctx.scaling)
        grad_a = grad_low.t() @ x
        grad_b = (low.t() @ grad).mul_(ctx.scaling).t()
        grad_x = None
        if ctx.needs_input_grad[0]:  # not for the first layer: nothing below it is trained
            grad_x = grad @ weight
            grad_x.addmm_(grad_low, a)
        return grad_x, None, None, grad_a, grad_b, None


def _fused_forward(module: Any, x: Tensor) -> Tensor:
    base = module.base_layer
    flat = x.reshape(-1, x.shape[-1])
    a, b = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
    scaling = module.scaling[_ADAPTER]
    output: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
        flat, base.weight, base.bias, a, b, scaling
    )
    return output.view(*x.shape[:-1], -1)


class TrainableModel:
    """A frozen base with one trainable adapter, run on packs. Use `load_trainable` to make one."""

    def __init__(self, peft_model: Any) -> None:
        self._peft_model = peft_model
        causal = peft_model.base_model.model
        self._body = causal.model
        self.head: Tensor = causal.lm_head.weight  # [vocab_size, hidden_size], frozen
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in peft_model.named_parameters() if parameter.requires_grad
        }

    def hidden_states(self, token_ids: Tensor, position_ids: Tensor, segments: Sequence[Segment]) -> Tensor:
        """token_ids, position_ids: [num_tokens] -> last hidden states, normed: [num_tokens, hidden_size]."""
        num_tokens = len(token_ids)
        size = round_up(num_tokens, TOKEN_MULTIPLE)
        if size > num_tokens:
            # The padding is a segment of its own: nobody attends to it.
            segments = [*segments, Segment(num_tokens, size, num_tokens, num_tokens)]
        output = self._body(
            input_ids=pad_rows(token_ids, size, dim=0).unsqueeze(0),
            position_ids=pad_rows(position_ids, size, dim=0).unsqueeze(0),
            # A dictionary is taken as ready-made masks: ours are in the segments.
            attention_mask={"full_attention": None, "sliding_attention": None},
            use_cache=False,
            segments=segments,
        )
        hidden: Tensor = output.last_hidden_state[0, :num_tokens]
        return hidden

    def save(self, folder: Path, base_name: str) -> None:
        """Write adapter_config.json and adapter_model.safetensors into an existing folder."""
        config = self._peft_model.peft_config[_ADAPTER]
        config.base_model_name_or_path = base_name
        config.target_modules = sorted(config.target_modules)  # a set would be written in random order
        config.inference_mode = True
        config.save_pretrained(str(folder))
        tensors = {
            name.replace(f".{_ADAPTER}.", "."): parameter.detach().contiguous()
            for name, parameter in self.parameters.items()
        }
        path = folder / "adapter_model.safetensors"
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors writes it for the owner alone


def load_trainable(base: Path, lora: Lora, seed: int, dtype: torch.dtype = torch.bfloat16) -> TrainableModel:
    """Load the base and put a fresh adapter on it: A random by the seed, B zero.

    Raises OSError naming the folder when there is no model, ValueError when the recipe's layers do not exist.
    """
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, attn_implementation=register_packed_attention(), local_files_only=True
    )
    num_layers = model.config.num_hidden_layers
    if lora.first_layer >= num_layers:
        raise ValueError(f"lora.first_layer is {lora.first_layer}, but the base has {num_layers} layers")
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        use_rslora=lora.use_rslora,
        layers_to_transform=list(range(lora.first_layer, num_layers)) if lora.first_layer else None,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, config, autocast_adapter_dtype=False)
    for module in peft_model.modules():
        if isinstance(module, PeftLinear):
            module.forward = types.MethodType(_fused_forward, module)
    return TrainableModel(peft_model)
