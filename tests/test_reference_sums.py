"""The reference's sums: those of residual blocks, and those of L2 regularisation."""

import numpy as np
import pytest
from oracles import distinct

from nbconv_kernels import reference as ops

SHAPES = [(2, 3, 4, 5), (3, 4), (0, 2, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_sums(shape):
    a, b = distinct(shape), distinct(shape, seed=1)
    expected = np.where(a + b > 0, a + b, 0)
    y = ops.add_relu(a, b)
    np.testing.assert_array_equal(y, expected)
    into = a.copy()
    assert ops.accumulate_relu(into, b) is None
    np.testing.assert_array_equal(into, expected)
    into = a.copy()
    assert ops.add_scaled(into, b, -0.5) is None
    np.testing.assert_allclose(into, a - 0.5 * b, rtol=1e-14)
    assert ops.sum_of_squares([a, b]) == pytest.approx(np.sum(a**2) + np.sum(b**2), rel=1e-13)
    if len(shape) == 4:
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_nan_passes():
    y = ops.add_relu(np.array([np.nan, np.inf, -np.inf, np.inf]), np.array([1.0, 1.0, 1.0, -np.inf]))
    np.testing.assert_array_equal(y, [np.nan, np.inf, 0, np.nan])


def test_squares_are_added_up_in_float64():
    ones = np.ones(1 << 12, np.float32)
    assert ops.sum_of_squares([ones, np.full(1, 1e5, np.float32)]) == 1e10 + (1 << 12)


@pytest.mark.parametrize("op", ["add_relu", "accumulate_relu", "add_scaled"])
def test_arrays_that_do_not_fit(op):
    x = np.ones((2, 3))
    more = (1.0,) if op == "add_scaled" else ()
    with pytest.raises(ValueError, match=rf"{op}: expected .* of one shape, got \(2, 3\) and \(1, 3\)"):
        getattr(ops, op)(x, x[:1], *more)
    with pytest.raises(TypeError, match=f"{op}: expected arrays of one dtype, got float64 and float32"):
        getattr(ops, op)(x, x.astype(np.float32), *more)
