"""The logarithms and the normal distribution that kernels use, against NumPy and the C library."""

import math
import re

import numba
import numpy as np
import pytest

from nbconv_kernels.cpu import logarithm, normal
from nbconv_kernels.cpu.jit import FASTMATH, kernel


@kernel
def log(x, y):
    for i in range(x.size):
        y[i] = logarithm.log(x[i])


@kernel
def log1p(x, y):
    for i in range(x.size):
        y[i] = logarithm.log1p(x[i])


@kernel
def normal_cdf(x, y):
    for i in range(x.size):
        y[i] = normal.normal_cdf(x[i])


dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def evaluate(function, x):
    y = np.empty_like(x)
    function(x, y)
    return y


def assert_few_units(y, exact, most):
    unit = np.spacing(np.abs(exact).astype(y.dtype)).astype(np.longdouble)
    error = np.abs(y.astype(np.longdouble) - exact) / unit
    assert error.max() <= most


@dtypes
def test_log_to_the_last_places(dtype):
    info = np.finfo(dtype)
    roots = 2.0 ** np.arange(-40, 40, 0.5)  # where the exponent's share and the rest's change over
    around = (roots * (1 + k * info.eps) for k in range(-3, 4))
    spread = np.geomspace(info.smallest_subnormal, info.max / 2, 100001)
    x = np.concatenate([spread, np.linspace(0.5, 2, 100001), *around]).astype(dtype)
    assert_few_units(evaluate(log, x), np.log(x.astype(np.longdouble)), 1)
    special = np.array([0.0, -0.0, 1.0, np.inf, np.nan, -1.0, -np.inf, -info.tiny], dtype)
    expected = [-np.inf, -np.inf, 0, np.inf, np.nan, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(evaluate(log, special), np.array(expected, dtype))


@dtypes
def test_log1p_to_the_last_places(dtype):
    info = np.finfo(dtype)
    spread = np.geomspace(info.smallest_subnormal, info.max / 2, 100001)
    x = np.concatenate([[0], spread, np.linspace(0, 1, 100001)]).astype(dtype)
    assert_few_units(evaluate(log1p, x), np.log1p(x.astype(np.longdouble)), 1.5)
    assert np.isnan(evaluate(log1p, np.array([np.nan], dtype)))


@dtypes
def test_normal_cdf(dtype):
    x = np.concatenate([np.linspace(-12, 12, 20001), [0.0, -0.0, 30, -30]]).astype(dtype)
    exact = np.array([math.erfc(-value * math.sqrt(0.5)) / 2 for value in x.astype(np.float64)])
    y = evaluate(normal_cdf, x)
    eps = np.finfo(dtype).eps
    assert np.abs(y - exact).max() <= 2 * eps
    near = np.abs(x) < 5
    assert (np.abs(y - exact) / exact)[near].max() <= 10 * eps
    special = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], dtype)
    np.testing.assert_array_equal(evaluate(normal_cdf, special), np.array([np.nan, 1, 0, 1, 0], dtype))


@pytest.mark.parametrize(
    ("function", "dtype"),
    [(f, dtype) for f in (log, log1p) for dtype in (np.float32, np.float64)] + [(normal_cdf, np.float32)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_loop_over_it_is_vector_code(function, dtype):
    """Measured with AVX-512: 0.7 ns an element for each of them in float32."""
    array = numba.typeof(np.empty(0, dtype))
    fresh = numba.njit(error_model="numpy", fastmath=FASTMATH)(function.py_func)
    fresh.compile((array, array))
    (assembly,) = fresh.inspect_asm().values()
    suffix = "ps" if dtype == np.float32 else "pd"
    assert re.search(rf"v?mul{suffix}\b|vfn?madd\d+{suffix}\b", assembly)
    assert "callq" not in assembly.split(".Lfunc_end0")[0]
