"""Convolutions of few channels, whose kernels have their own layouts, against the reference."""

import numpy as np
import pytest

from nbconv_kernels import reference
from nbconv_kernels.cpu.conv import narrow
from nbconv_kernels.geometry import conv2d_geometry

LIMIT = {np.float32: 2e-6, np.float64: 2e-14}  # of the relative error

# x, weight, keyword arguments
NARROW = {
    "more images than a tile has rows": ((33, 6, 9, 8), (5, 6, 5, 5), {}),
    "a tile with rows of two images": ((3, 3, 11, 10), (7, 3, 3, 3), {"padding": 1}),
    "phases of the stride": ((3, 3, 13, 12), (4, 3, 7, 7), {"stride": 2, "padding": 3}),
    "a stride over more than the kernel": ((17, 2, 10, 11), (3, 2, 2, 2), {"stride": 3}),
    "rows and columns that no window covers": ((2, 1, 9, 9), (3, 1, 3, 3), {"stride": (3, 4)}),
    "wide windows": ((2, 7, 9, 15), (3, 7, 3, 11), {"padding": (0, 4)}),
    "padding beyond the kernel": ((1, 2, 3, 3), (2, 2, 2, 2), {"padding": 4, "stride": 3}),
    "uneven padding": ((2, 2, 5, 6), (3, 2, 3, 2), {"padding": ((2, 0), (0, 3)), "stride": (2, 1)}),
    "dilated rows": ((2, 2, 11, 6), (3, 2, 3, 2), {"dilation": (3, 1), "stride": (2, 1), "padding": (3, 0)}),
}


def standard_normal(*shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NARROW)
def test_input_gradient_of_few_channels(name, dtype):
    x_shape, w_shape, options = NARROW[name]
    g = conv2d_geometry(x_shape, w_shape, **options)
    dy, weight = (array.astype(dtype) for array in standard_normal((g.n, g.p, g.q, g.k), w_shape))
    actual = narrow.backward_input(dy, weight, g)
    exact = dy.transpose(0, 3, 1, 2).astype(np.float64), weight.astype(np.float64)
    expected = reference.conv2d_backward_input(*exact, x_shape, **options)
    assert relative_error(actual, expected) < LIMIT[dtype]


def test_what_is_no_number_reaches_the_pixels_under_its_window_only():
    dy, weight = (array.astype(np.float32) for array in standard_normal((20, 6, 6, 4), (4, 3, 3, 3)))
    dy[7, 2, 3, 1] = np.nan
    g = conv2d_geometry((20, 3, 8, 8), weight.shape)
    expected = np.zeros((20, 8, 8), bool)
    expected[7, 2:5, 3:6] = True
    lost = np.isnan(narrow.backward_input(dy, weight, g))
    np.testing.assert_array_equal(lost, np.repeat(expected[:, None], 3, axis=1))
