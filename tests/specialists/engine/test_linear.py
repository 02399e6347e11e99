"""Every kind of product against torch's, and each row against itself in company."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from specialists.engine.linear import Linear, LinearMaker, PackedLinear, PlainLinear
from specialists.engine.native.library import Kernels, load_kernels
from specialists.engine.native_linear import NativeLinear
from specialists.engine.quantized_linear import Int8Linear, quantize_rows
from tests.specialists.engine.compiled import kernels_or_skip

IN, OUT = 128, 160


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return kernels_or_skip(with_products=True)


def weight() -> Tensor:
    return (torch.randn(OUT, IN, generator=torch.Generator().manual_seed(1)) * 0.1).bfloat16()


def bias() -> Tensor:
    return torch.randn(OUT, generator=torch.Generator().manual_seed(2)).bfloat16()


def rows(count: int) -> Tensor:
    return torch.randn(count, IN, generator=torch.Generator().manual_seed(3)).bfloat16()


def expected(x: Tensor) -> Tensor:
    return x.double() @ weight().double().t() + bias().double()


KINDS: dict[str, tuple[Callable[[Kernels], Linear], float]] = {
    "plain": (lambda _: PlainLinear(weight(), bias()), 0.02),
    "packed": (lambda _: PackedLinear(weight(), bias()), 0.02),
    "native": (lambda kernels: NativeLinear(kernels, weight(), bias(), quantized=False), 0.02),
    "native-int8": (lambda kernels: NativeLinear(kernels, weight(), bias(), quantized=True), 0.06),
    "int8": (lambda _: Int8Linear(weight(), bias()), 0.06),
    "bnb-int8": (lambda _: LinearMaker("bnb-int8")(weight(), bias()), 0.06),
    "bnb-nf4": (lambda _: LinearMaker("bnb-nf4")(weight(), bias()), 0.6),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 7, 16, 17, 50])
def test_every_kind_is_the_product(kernels: Kernels, kind: str, count: int):
    make, tolerance = KINDS[kind]
    x = rows(count)
    found = make(kernels)(x)
    assert found.shape == (count, OUT)
    assert found.dtype is torch.bfloat16
    assert (found.double() - expected(x)).abs().max() < tolerance


@pytest.mark.parametrize("quantized", [False, True])
def test_native_rows_do_not_depend_on_company(kernels: Kernels, quantized: bool):
    linear = NativeLinear(kernels, weight(), bias(), quantized=quantized)
    x = rows(70)
    alone = torch.cat([linear(x[i : i + 1]) for i in range(len(x))])
    for count in range(1, 71):
        assert torch.equal(linear(x[:count]), alone[:count]), f"{count} rows"


def test_native_and_onednn_8_bit_products_agree(kernels: Kernels):
    """The integer sums are exact in both; only the last rounding may differ."""
    x = rows(20)
    native, onednn = NativeLinear(kernels, weight(), None, quantized=True)(x), Int8Linear(weight())(x)
    assert (native == onednn).float().mean() > 0.99
    torch.testing.assert_close(native, onednn, rtol=2**-7, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["native-int8", "int8"])
def test_a_row_that_is_not_finite_stays_so_and_alone(kernels: Kernels, kind: str, bad: float):
    linear = KINDS[kind][0](kernels)
    x = rows(5)
    clean = linear(x)
    x[2, 7] = bad
    found = linear(x)
    assert not found[2].isfinite().any()
    others = [0, 1, 3, 4]
    assert torch.equal(found[others], clean[others])


def test_no_rows_are_no_product(kernels: Kernels):
    for quantized in (False, True):
        assert NativeLinear(kernels, weight(), None, quantized=quantized)(rows(0)).shape == (0, OUT)


def test_quantized_rows_are_near_and_have_the_sign(kernels: Kernels):
    x = rows(4)
    x[1] = 0
    values, scale = quantize_rows(x)
    assert ((values.float() * scale[:, None]) - x.float()).abs().max() <= scale.max() / 2 + 1e-6
    assert values[1].eq(0).all()


def test_unfit_widths_take_another_kind(kernels: Kernels):
    odd = torch.randn(100, 128).bfloat16()
    assert isinstance(LinearMaker("none", kernels)(odd), PackedLinear | PlainLinear)
    assert isinstance(LinearMaker("int8", kernels)(odd), Int8Linear)


def test_bitsandbytes_leaves_the_head_as_it_is(kernels: Kernels):
    assert isinstance(LinearMaker("bnb-nf4", kernels).head(weight()), NativeLinear | PackedLinear)


@pytest.mark.slow
def test_kernels_are_compiled_into_the_given_folder(tmp_path: Path):
    kernels_or_skip()
    load_kernels(tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"]


def test_with_amx_only_batch_invariance_takes_the_native_products(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert isinstance(LinearMaker("none", kernels)(weight()), PackedLinear)
    assert isinstance(LinearMaker("int8", kernels)(weight()), Int8Linear)
    assert isinstance(LinearMaker("none", kernels, batch_invariant=True)(weight()), NativeLinear)
