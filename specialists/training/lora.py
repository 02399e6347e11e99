"""LoRA on a frozen base for training: PEFT makes and names the parameters, one fused function runs them.

PEFT's own forward adds the low-rank product to the base's output in extra passes over memory and autograd
keeps more than is needed. Here the product is accumulated by the matrix multiplication itself, forward and
backward; the result is PEFT's up to rounding. What is saved is PEFT's format.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from safetensors.torch import save_file
from torch import Tensor, nn

from specialists.adapters.files import WEIGHTS_FILE
from specialists.adapters.peft_config import scaling_of
from specialists.training.frozen_weights import FrozenWeight, freeze_weight
from specialists.training.packed_model import load_causal_model, run_body
from specialists.training.packing import Pack
from specialists.training.recipe import RecipeError
from specialists.training.sections import BaseQuantization, Lora

_ADAPTER = "default"


class _Switch:
    """Whether the adapter takes part; all linears of a model share one."""

    is_on = True


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + bias + scaling * (x A^T) B^T for a frozen W.

    x: [num_tokens, in], weight: [out, in], a: [rank, in], b: [out, rank] -> [num_tokens, out].
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: FrozenWeight, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        output = weight.product(x, bias)
        low = x @ a.t()  # [num_tokens, rank]
        output.addmm_(low, b.t(), alpha=scaling)
        ctx.save_for_backward(x, a, b, low)
        ctx.weight, ctx.scaling = weight, scaling
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, a, b, low = ctx.saved_tensors
        (grad,) = grads
        grad_low = (grad @ b).mul_(ctx.scaling)
        grad_a = grad_low.t() @ x
        grad_b = (low.t() @ grad).mul_(ctx.scaling).t()
        grad_x = None
        if ctx.needs_input_grad[0]:  # not for the first layer: nothing below it is trained
            grad_x = ctx.weight.backward(grad)
            grad_x.addmm_(grad_low, a)
        return grad_x, None, None, grad_a, grad_b, None


class _FrozenLinear(torch.autograd.Function):
    """y = x W^T + bias without an adapter; the dense weight is not kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: FrozenWeight, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return weight.product(x, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.weight.backward(grads[0]), None, None


def _fused_forward(module: Any, weight: FrozenWeight, switch: _Switch, x: Tensor) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    if isinstance(module, PeftLinear) and switch.is_on:
        a, b = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
        output: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            flat, weight, module.base_layer.bias, a, b, module.scaling[_ADAPTER]
        )
    else:
        output = _FrozenLinear.apply(flat, weight, module.bias)  # type: ignore[no-untyped-call]
    return output.view(*x.shape[:-1], -1)


def _fuse(peft_model: Any, quantization: BaseQuantization, kernel_folder: Path | None) -> _Switch:
    """Put the fused forward under every linear of the layers, quantising the weights on the way."""
    switch = _Switch()
    layers = peft_model.base_model.model.model.layers
    adapted = [module for module in layers.modules() if isinstance(module, PeftLinear)]
    known = {id(part) for module in adapted for part in module.modules() if part is not module}
    plain = [one for one in layers.modules() if isinstance(one, nn.Linear) and id(one) not in known]
    for module in [*adapted, *plain]:
        linear = module.base_layer if isinstance(module, PeftLinear) else module
        weight = freeze_weight(linear.weight, quantization, kernel_folder)
        if quantization != "none":
            linear.weight = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)
        module.forward = partial(_fused_forward, module, weight, switch)
    return switch


class TrainableModel:
    """A frozen base with one trainable adapter, run on packs. Use `load_trainable` to make one."""

    def __init__(self, peft_model: Any, switch: _Switch) -> None:
        self._peft_model = peft_model
        self._switch = switch
        causal = peft_model.base_model.model
        self._body = causal.model
        self.head: Tensor = causal.lm_head.weight  # [vocab_size, hidden_size], frozen
        self.num_layers: int = causal.config.num_hidden_layers
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in peft_model.named_parameters() if parameter.requires_grad
        }

    def predicting_states(self, pack: Pack) -> Tensor:
        """The normed hidden states that predict the pack's targets: [num_targets, hidden_size]."""
        return self._states(pack, every_layer=False)[-1]

    def layer_states(self, pack: Pack) -> tuple[Tensor, ...]:
        """The same behind the embeddings and behind every layer; the last are those of `predicting_states`."""
        return self._states(pack, every_layer=True)

    def _states(self, pack: Pack, every_layer: bool) -> tuple[Tensor, ...]:
        states = run_body(
            self._body,
            torch.tensor(pack.token_ids),
            torch.tensor(pack.position_ids),
            pack.segments,
            every_layer,
        )
        positions = torch.tensor(pack.loss_positions)
        return tuple(one.index_select(0, positions) for one in states)

    @contextmanager
    def adapter_off(self) -> Iterator[None]:
        """The bare base, without gradients."""
        self._switch.is_on = False
        try:
            with torch.no_grad():
                yield
        finally:
            self._switch.is_on = True

    @property
    def scaling(self) -> float:
        """What the adapter's products are multiplied by."""
        config = self._peft_model.peft_config[_ADAPTER]
        return scaling_of(config.lora_alpha, config.r, config.use_rslora)

    def saved_parameters(self) -> dict[str, nn.Parameter]:
        """The adapter's parameters under the names that PEFT's files give them."""
        return {name.replace(f".{_ADAPTER}.", "."): one for name, one in self.parameters.items()}

    def save(self, folder: Path, base_name: str) -> None:
        """Write adapter_config.json and adapter_model.safetensors into an existing folder."""
        config = self._peft_model.peft_config[_ADAPTER]
        config.base_model_name_or_path = base_name
        config.target_modules = sorted(config.target_modules)  # a set would be written in random order
        config.inference_mode = True
        config.save_pretrained(str(folder))
        tensors = {name: one.detach().contiguous() for name, one in self.saved_parameters().items()}
        path = folder / WEIGHTS_FILE
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors writes it for the owner alone


def load_trainable(
    base: Path,
    lora: Lora,
    seed: int,
    dtype: torch.dtype = torch.bfloat16,
    quantization: BaseQuantization = "none",
    kernel_folder: Path | None = None,
) -> TrainableModel:
    """Load the base and put a fresh adapter on it: A random by the seed, B zero. `kernel_folder`: as the engine's.

    Raises OSError naming the folder when there is no model, RecipeError when its layers do not exist.
    """
    model = load_causal_model(base, dtype)
    num_layers = model.config.num_hidden_layers
    if lora.first_layer >= num_layers:
        raise RecipeError(f"lora.first_layer is {lora.first_layer}, but the base has {num_layers} layers")
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
    return TrainableModel(peft_model, _fuse(peft_model, quantization, kernel_folder))
