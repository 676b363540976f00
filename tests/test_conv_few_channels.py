"""Convolutions of few channels, whose kernels have their own layouts, against the reference."""

import numpy as np
import pytest

from nbconv_kernels import reference
from nbconv_kernels.cpu import program
from nbconv_kernels.cpu.conv import gray, gray_forward, narrow
from nbconv_kernels.cpu.conv.target import Target
from nbconv_kernels.cpu.epilogue import finish_of
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
# x, weight, padding
GRAY = {
    "as in LeNet-5": ((3, 1, 32, 32), (6, 1, 5, 5), 0),
    "padded": ((2, 1, 9, 30), (8, 1, 5, 3), (2, 1)),
    "padded unevenly": ((2, 1, 9, 8), (3, 1, 4, 3), ((3, 0), (0, 2))),
    "padded beyond the kernel": ((2, 1, 3, 2), (4, 1, 2, 2), 4),
    "one filter, one tap": ((2, 1, 5, 17), (1, 1, 1, 1), 0),
    "rows block by block": ((2, 1, 70, 41), (7, 1, 3, 7), 1),
    "one pixel": ((5, 1, 3, 3), (2, 1, 3, 3), 0),
    "no image": ((0, 1, 8, 8), (2, 1, 3, 3), 0),
}
BESIDE = 64  # elements around an array that must stay as they are


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("name", GRAY)
def test_forward_pass_of_gray_images(name, activation, dtype):
    x_shape, w_shape, padding = GRAY[name]
    g = conv2d_geometry(x_shape, w_shape, padding=padding)
    x, weight, bias = (array.astype(dtype) for array in standard_normal(x_shape, w_shape, w_shape[0]))
    size = g.n * g.p * g.q * g.k
    memory = np.full(size + 2 * BESIDE, 77, dtype)
    target = Target(memory[BESIDE:-BESIDE].reshape(g.n, g.p, g.q, g.k), 0, finish_of("test", activation))
    actual = gray_forward.forward(x.transpose(0, 2, 3, 1), weight, bias, g, target)
    assert np.shares_memory(actual, memory) or not size
    exact = (array.astype(np.float64) for array in (x, weight, bias))
    expected = reference.conv2d(*exact, padding=padding, activation=activation)
    assert relative_error(actual, expected) < LIMIT[dtype] if size else actual.shape == expected.shape
    assert (memory[:BESIDE] == 77).all()
    assert (memory[-BESIDE:] == 77).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_infinite_pixel_reaches_the_windows_around_it_only(value):
    x, weight = (array.astype(np.float32) for array in standard_normal((3, 20, 19, 1), (5, 1, 3, 3)))
    x[1, 7, 18] = value
    g = conv2d_geometry((3, 1, 20, 19), weight.shape)
    expected = np.zeros((3, 18, 17), bool)
    expected[1, 5:8, 16] = True
    lost = ~np.isfinite(gray_forward.forward(x, weight, None, g))
    np.testing.assert_array_equal(lost, np.repeat(expected[:, None], 5, axis=1))


MORE_FILTERS = {
    "thirteen filters": ((2, 1, 11, 18), (13, 1, 3, 3), 1),
    "more taps than are summed together": ((4, 1, 12, 35), (3, 1, 7, 2), (0, 1)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", GRAY | MORE_FILTERS)
def test_weight_gradient_of_gray_images(name, dtype):
    x_shape, w_shape, padding = (GRAY | MORE_FILTERS)[name]
    g = conv2d_geometry(x_shape, w_shape, padding=padding)
    x, dy = (array.astype(dtype) for array in standard_normal(x_shape, (g.n, g.p, g.q, g.k)))
    actual = gray.backward_weight(dy, x.transpose(0, 2, 3, 1), g)
    exact = dy.transpose(0, 3, 1, 2).astype(np.float64), x.astype(np.float64)
    expected = reference.conv2d_backward_weight(*exact, w_shape, padding=padding)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=LIMIT[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_infinite_pixel_reaches_the_weights_that_saw_it_only(value):
    x, dy = (array.astype(np.float32) for array in standard_normal((3, 20, 19, 1), (3, 18, 17, 5)))
    x[1, 7, 18] = value  # in the last column, which only the kernel's last one reaches
    gradient = gray.backward_weight(dy, x, conv2d_geometry((3, 1, 20, 19), (5, 1, 3, 3)))
    np.testing.assert_array_equal(np.isfinite(gradient), np.arange(3) + np.zeros((5, 1, 3, 3)) < 2)


def test_an_infinite_gradient_reaches_the_weights_of_its_filter_only():
    x, dy = (array.astype(np.float32) for array in standard_normal((3, 20, 19, 1), (3, 18, 17, 5)))
    dy[1, 4, 16, 3] = np.nan
    gradient = gray.backward_weight(dy, x, conv2d_geometry((3, 1, 20, 19), (5, 1, 3, 3)))
    np.testing.assert_array_equal(np.isfinite(gradient).all(axis=(1, 2, 3)), np.arange(5) != 3)


def test_a_program_leaves_gray_images_to_their_kernel():
    g = conv2d_geometry((1, 1, 28, 28), (2, 1, 3, 3), padding=1)
    assert gray_forward.suits(g, 4)
    assert not program.takes(g, np.float32)
