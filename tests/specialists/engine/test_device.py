"""The path of a CUDA device, run where there is none: on the meta device, which refuses what mixes devices, and with every
operation looked at.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from specialists.adapters.checkpoint import read_checkpoint
from specialists.adapters.lora_linear import StackedLora
from specialists.engine.batch import build_batch
from specialists.engine.config import EngineConfig
from specialists.engine.kv_cache import KVCache
from specialists.engine.qwen import QwenModel
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.scheduler_output import BASE_SLOT, ScheduledSequence, SchedulerOutput
from specialists.engine.sequence import Sequence
from tests.specialists.conftest import MakeAdapter

BLOCK_SIZE = 4


def planned(tokens: int, computed: int, now: int, slot: int) -> ScheduledSequence:
    sequence = Sequence(
        request_id=f"{tokens}/{computed}",
        token_ids=list(range(tokens)),
        num_prompt=tokens,
        params=SamplingParams(temperature=0, max_tokens=4),
        seed=0,
        max_total=tokens + 4,
    )
    sequence.num_computed = computed
    sequence.block_table = list(range(-(-tokens // BLOCK_SIZE)))
    return ScheduledSequence(sequence, now, slot)


def a_step() -> SchedulerOutput:
    """Two decoding rows, a prompt's first chunk and another's last: all that attention tells apart."""
    decodes = (planned(5, 4, 1, 0), planned(11, 10, 1, BASE_SLOT))
    return SchedulerOutput(decodes, (planned(9, 0, 6, 1), planned(13, 8, 5, BASE_SLOT)))


def forward(base: Path, adapter: Path, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    model = QwenModel(base, device, dtype, EngineConfig(dtype="float32"))
    shape = model.config
    cache = KVCache(
        num_layers=shape.num_layers,
        num_blocks=8,
        block_size=BLOCK_SIZE,
        num_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        device=device,
        dtype=dtype,
    )
    lora = StackedLora(shape, 4, device, dtype)
    for slot in (0, 1):
        lora.place(slot, read_checkpoint(adapter, shape, 16, dtype, 2**24).weights)
    output = a_step()
    with torch.inference_mode():
        return model.forward(build_batch(output, BLOCK_SIZE, device), cache, lora.for_step(output))


@pytest.mark.parametrize("base", ["tiny_qwen2", "tiny_qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_of_a_step_is_on_the_device(
    request: pytest.FixtureRequest, make_adapter: MakeAdapter, base: str, dtype: torch.dtype
):
    folder: Path = request.getfixturevalue(base)
    logits = forward(folder, make_adapter(folder, "one"), torch.device("meta"), dtype)
    assert logits.device.type == "meta"
    assert logits.shape == (3, 400)  # the first chunk ends before its prompt does: nothing is sampled there


class Namespaces(TorchDispatchMode):
    """Which libraries of operations were called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen.add(func.namespace)
        call: Callable[..., Any] = func
        return call(*args, **(kwargs or {}))


def test_no_operation_of_a_cpu_library_is_called(tiny_qwen2: Path, make_adapter: MakeAdapter):
    with Namespaces() as namespaces:
        forward(tiny_qwen2, make_adapter(tiny_qwen2, "one"), torch.device("cpu"), torch.float32)
    assert namespaces.seen == {"aten"}
