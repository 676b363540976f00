"""The project's matrix product beside NumPy's BLAS."""

import numpy as np
import pytest

from nbconv_kernels import cpu


@pytest.mark.parametrize("size", [256, 512, 1024, 2048])
def test_matmul(race, size):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((size, size), dtype=np.float32)
    b = rng.standard_normal((size, size), dtype=np.float32)
    np.testing.assert_allclose(cpu.matmul(a, b), a @ b, rtol=1e-3, atol=1e-3)
    race("matmul", f"{size} x {size} x {size}", lambda: cpu.matmul(a, b), numpy=lambda: a @ b)
