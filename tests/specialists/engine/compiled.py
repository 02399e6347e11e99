"""The native kernels for tests; a machine without a C++ compiler has none, and the engine does without them."""

import pytest

from specialists.engine.native.build import BuildError
from specialists.engine.native.library import Kernels, load_kernels


def kernels_or_skip(*, with_products: bool = False) -> Kernels:
    """The kernels for this process; skips the test where they cannot be compiled, or lack the products it needs."""
    try:
        kernels = load_kernels(None)
    except BuildError as error:
        pytest.skip(f"no native kernels: {error}")
    if with_products and not kernels.has_linear:
        pytest.skip("this processor has no AVX512-VNNI and AVX512-BF16: oneDNN's products are used")
    return kernels
