"""Each kernel against float64 arithmetic, and each row against itself in company.

Compiled twice: with all this processor has, and without the vector instructions that not every processor has.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from specialists.adapters.checkpoint import LoraPair, LoraWeights
from specialists.adapters.native_lora import NativeLora
from specialists.engine.linear import Linear
from specialists.engine.native.build import build_kernels
from specialists.engine.native.library import Kernels, address
from specialists.engine.native_linear import NativeLinear
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.scheduler_output import BASE_SLOT, ScheduledSequence, SchedulerOutput
from specialists.engine.sequence import Sequence
from tests.specialists.engine.compiled import kernels_or_skip

BF16_STEP = 2**-8  # relative distance of neighbouring bf16 numbers


@pytest.fixture(scope="module", params=["native", pytest.param("x86-64-v3", marks=pytest.mark.slow)])
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    native = kernels_or_skip()
    if request.param == "native":
        return native
    return Kernels(build_kernels(tmp_path_factory.mktemp("kernels"), request.param))


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * scale).bfloat16()


def add_norm(kernels: Kernels, x: Tensor, added: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
    x, out = x.clone(), torch.empty_like(x)
    kernels.add_norm(address(x), address(added), address(weight), address(out), *x.shape, 1e-6)
    return x, out


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_add_norm(kernels: Kernels, rows: int):
    x, added, weight = random(rows, 96), random(rows, 96, seed=1), random(96, seed=2)
    total, normed = add_norm(kernels, x, added, weight)
    assert torch.equal(total, x + added)
    wide = total.double()
    expected = wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
    torch.testing.assert_close(normed.double(), expected, rtol=2 * BF16_STEP, atol=1e-6)
    unchanged, _ = add_norm(kernels, x, None, weight)
    assert torch.equal(unchanged, x)


@pytest.mark.parametrize(("rows", "width"), [(1, 160), (5, 4864), (33, 48)])
def test_silu_mul(kernels: Kernels, rows: int, width: int):
    gate_up = random(rows, 2 * width, scale=4.0)
    gate_up[0, :3] = torch.tensor([-90.0, 90.0, 0.0])
    out = torch.empty(rows, width, dtype=torch.bfloat16)
    kernels.silu_mul(address(gate_up), address(out), rows, width)
    gate, up = gate_up.double().chunk(2, dim=-1)
    torch.testing.assert_close(
        out.double(), torch.nn.functional.silu(gate) * up, rtol=2 * BF16_STEP, atol=1e-6
    )


@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("num_keys", [1, 15, 16, 17, 70])
def test_attention(kernels: Kernels, head_dim: int, num_keys: int):
    num_heads, num_kv_heads, block_size, num_blocks, rows = 6, 2, 8, 24, 2
    query = random(rows, num_heads * head_dim)
    keys = random(num_kv_heads, num_blocks * block_size, head_dim, seed=1)
    values = random(num_kv_heads, num_blocks * block_size, head_dim, seed=2)
    blocks = torch.randperm(num_blocks, generator=torch.Generator().manual_seed(3))
    starts, lengths = torch.tensor([0, 12]), torch.tensor([num_keys, max(1, num_keys - 3)])
    out = torch.empty(rows, num_heads * head_dim, dtype=torch.bfloat16)
    kernels.attention(
        *(address(query), num_heads * head_dim, rows, num_heads, num_kv_heads, head_dim),
        *(address(keys), address(values), keys.stride(0), address(blocks), address(starts)),
        *(address(lengths), block_size, head_dim**-0.5, address(out), False),
    )
    for row in range(rows):
        own = blocks[int(starts[row]) :]
        places = torch.cat([torch.arange(block_size) + block * block_size for block in own])[
            : int(lengths[row])
        ]
        for head in range(num_heads):
            q = query[row].view(num_heads, head_dim)[head].double()
            k, v = keys[head // 3][places].double(), values[head // 3][places].double()
            expected = torch.softmax(k @ q * head_dim**-0.5, dim=0) @ v
            found = out[row].view(num_heads, head_dim)[head].double()
            torch.testing.assert_close(found, expected, rtol=2 * BF16_STEP, atol=2e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 5, 40, 70])
def test_a_key_that_is_no_number_spoils_the_rows_that_see_it_and_no_other(
    kernels: Kernels, bad: float, place: int
):
    """What the rows say must then be refused, so it must not look like an answer; the values here are all finite."""
    rows, head_dim, block_size = 80, 16, 8
    query = random(rows, 2 * head_dim).abs()
    keys = random(1, rows, head_dim, seed=1)
    keys[0, place] = bad
    if bad == float("inf"):
        keys[0, place, 0] = -bad  # infinities of both signs: their sum is no number
    values = random(1, rows, head_dim, seed=2)
    blocks, starts = torch.arange(rows // block_size), torch.zeros(rows, dtype=torch.long)
    lengths, out = torch.arange(1, rows + 1), torch.empty(rows, 2 * head_dim, dtype=torch.bfloat16)
    kernels.attention(
        *(address(query), 2 * head_dim, rows, 2, 1, head_dim),
        *(address(keys), address(values), keys.stride(0), address(blocks), address(starts)),
        *(address(lengths), block_size, head_dim**-0.5, address(out), True),
    )
    assert out[:place].isfinite().all()
    assert out[place:].isnan().all()


@pytest.mark.parametrize("group", [1, 7, 16])
@pytest.mark.parametrize(("before", "rows"), [(0, 1), (0, 40), (13, 5), (31, 33)])
def test_a_row_of_a_chunk_attends_as_if_it_were_alone(kernels: Kernels, group: int, before: int, rows: int):
    num_kv_heads, head_dim, block_size, num_blocks = 2, 32, 8, 12
    width = num_kv_heads * group * head_dim
    query = random(rows, width)
    keys = random(num_kv_heads, num_blocks * block_size, head_dim, seed=1)
    values = random(num_kv_heads, num_blocks * block_size, head_dim, seed=2)
    blocks = torch.randperm(num_blocks, generator=torch.Generator().manual_seed(3))
    lengths, starts = torch.arange(before + 1, before + rows + 1), torch.zeros(rows, dtype=torch.long)

    def attend(first: int, last: int, is_chunk: bool) -> Tensor:
        out = torch.empty(last - first, width, dtype=torch.bfloat16)
        kernels.attention(
            *(address(query[first:]), width, last - first, num_kv_heads * group, num_kv_heads, head_dim),
            *(address(keys), address(values), keys.stride(0), address(blocks), address(starts)),
            *(address(lengths[first:]), block_size, head_dim**-0.5, address(out), is_chunk),
        )
        return out

    together = attend(0, rows, True)
    assert together.isfinite().all()
    for row in range(rows):
        assert torch.equal(attend(row, row + 1, False)[0], together[row])


def lora_weights(base: QwenConfig, rank: int, seed: int) -> LoraWeights:
    """Adapts q, v and down of layer 1 only: absent targets and layers must add nothing."""
    sizes = {
        "q_proj": (base.hidden_size, base.query_size),
        "v_proj": (base.hidden_size, base.kv_size),
        "down_proj": (base.intermediate_size, base.hidden_size),
    }
    pairs = {
        (1, target): LoraPair(
            random(rank, n, seed=seed, scale=0.1), random(out, rank, seed=seed + 1, scale=0.1)
        )
        for target, (n, out) in sizes.items()
    }
    return LoraWeights(rank=rank, scaling=0.5, pairs=pairs)


def plan(slots: list[int]) -> SchedulerOutput:
    """One decoding row for each slot."""
    params = SamplingParams(temperature=0, max_tokens=1)
    sequences = [
        Sequence(request_id=str(i), token_ids=[1], num_prompt=1, params=params, seed=0, max_total=2)
        for i in range(len(slots))
    ]
    return SchedulerOutput(
        tuple(ScheduledSequence(sequence, 1, slot) for sequence, slot in zip(sequences, slots, strict=True)),
        (),
    )


def given(base: Tensor) -> Linear:
    """A linear whose product is already known."""
    return lambda _: base.clone()


@pytest.mark.parametrize("num_rows", [1, 8, 9, 17, 70])
@pytest.mark.parametrize("ranks", [(1, 8, 16), (3, 17, 64)])
def test_lora_gives_each_row_its_own_adapter(
    kernels: Kernels, tiny_qwen2: Path, ranks: tuple[int, ...], num_rows: int
):
    base = read_qwen_config(tiny_qwen2)
    lora = NativeLora(kernels, base, 4)
    adapters = [lora_weights(base, rank, seed=10 * number) for number, rank in enumerate(ranks)]
    for slot, weights in enumerate(adapters):
        lora.place(slot, weights)
    slots = [0, 1, 2, BASE_SLOT, 2, 1, *[0] * (num_rows - 1), *[2] * 18]
    batch = lora.for_step(plan(slots))
    assert batch is not None
    x = random(len(slots), base.hidden_size, seed=5)
    before = random(len(slots), base.query_size + 2 * base.kv_size, seed=6)
    after = batch.product(1, "qkv", x, given(before))
    expected = before.double()
    for row, slot in enumerate(slots):
        if slot != BASE_SLOT:
            for target, start in (("q_proj", 0), ("v_proj", base.query_size + base.kv_size)):
                pair = adapters[slot].pairs[1, target]
                reduced = (pair.a.double() @ x[row].double()).bfloat16().double()
                expected[row, start : start + len(pair.b)] += 0.5 * (pair.b.double() @ reduced)
    torch.testing.assert_close(after.double(), expected, rtol=2 * BF16_STEP, atol=1e-2)
    assert not torch.equal(after, before)
    assert torch.equal(batch.product(0, "qkv", x, given(before)), before), "layer 0 is not adapted"
    assert torch.equal(batch.product(1, "gate_up", x, given(before)), before), "gate and up are not adapted"
    for row, slot in enumerate(slots):
        alone = lora.for_step(plan([slot]))
        found = before[row : row + 1].clone()
        if alone is not None:
            found = alone.product(1, "qkv", x[row : row + 1].contiguous(), given(found))
        assert torch.equal(found[0], after[row])


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("num_rows", [1, 5, 14, 16, 17, 90])
@pytest.mark.parametrize("group", ["qkv", "down"])
def test_an_adapted_product_is_the_product_and_then_the_adapters(
    kernels: Kernels, tiny_qwen2: Path, group: str, num_rows: int, quantized: bool
):
    if not kernels.has_linear:
        pytest.skip("compiled without products")
    base = read_qwen_config(tiny_qwen2)
    n, out = {
        "qkv": (base.hidden_size, base.query_size + 2 * base.kv_size),
        "down": (base.intermediate_size, base.hidden_size),
    }[group]
    linear = NativeLinear(kernels, random(out, n, seed=3), random(out, seed=4), quantized=quantized)
    lora = NativeLora(kernels, base, 3)
    for slot, rank in enumerate((1, 16, 33)):
        lora.place(slot, lora_weights(base, rank, seed=7 * slot))
    batch = lora.for_step(plan([(0, BASE_SLOT, 1, 2)[row % 4] for row in range(num_rows)]))
    assert batch is not None
    x = random(num_rows, n, seed=5)
    apart = batch.product(1, group, x, given(linear(x)))
    assert torch.equal(batch.product(1, group, x, linear), apart)
    assert not torch.equal(apart, linear(x))


def test_no_adapted_row_is_no_work(kernels: Kernels, tiny_qwen2: Path):
    assert NativeLora(kernels, read_qwen_config(tiny_qwen2), 2).for_step(plan([BASE_SLOT] * 3)) is None


def test_a_replaced_slot_forgets_the_former_adapter(kernels: Kernels, tiny_qwen2: Path):
    base = read_qwen_config(tiny_qwen2)
    lora = NativeLora(kernels, base, 1)
    first, second = lora_weights(base, 4, seed=1), lora_weights(base, 4, seed=50)
    x, before = random(1, base.hidden_size), random(1, base.query_size + 2 * base.kv_size, seed=6)

    def answer() -> Tensor:
        batch = lora.for_step(plan([0]))
        assert batch is not None
        return batch.product(1, "qkv", x, given(before))

    lora.place(0, first)
    with_first = answer()
    lora.place(0, second)
    assert not torch.equal(answer(), with_first)
    lora.place(0, first)
    assert torch.equal(answer(), with_first)


def test_one_pool_of_threads():
    """A second OpenMP runtime would have its own threads, which fight torch's for the cores."""
    before = _openmp_runtimes()
    kernels = kernels_or_skip()
    x = random(64, 96)
    add_norm(kernels, x, None, random(96))
    assert any("torch" in path for path in before)
    assert _openmp_runtimes() == before


def _openmp_runtimes() -> set[str]:
    """Those loaded in this process; scikit-learn brings one of its own."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "gomp" in line or "libomp" in line}
