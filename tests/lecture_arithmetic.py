"""Rows C: convolution and pooling arithmetic."""

import itertools

import numpy as np
import pytest
from lecture_rows import conv, count, image, row, shapes, zeros

import nbconv as nb


@row("C1")
def cross_correlation(backend):
    x = image([1, 0.5, 20], [0.25, 0, 0], [0, 0, 20])
    y = conv(backend, [[[[1, 0.2], [0.2, 0]]]])(x)
    np.testing.assert_allclose(y, image([1.15, 4.5], [0.25, 0]), rtol=1e-6)


@row("C2")
def two_input_channels(backend):
    x = np.stack([np.arange(9).reshape(3, 3), np.arange(1, 10).reshape(3, 3)])[np.newaxis].astype(np.float32)
    y = conv(backend, [[[[0, 1], [2, 3]], [[1, 2], [3, 4]]]])(x)
    np.testing.assert_array_equal(y, image([56, 72], [104, 120]))


@row("C3")
def output_size_formula(backend):
    for (height, width), kernel, stride, padding, dilation in itertools.product(
        [(7, 9), (12, 8)], [(1, 1), (3, 2)], [(1, 1), (2, 3)], [(0, 0), (1, 2)], [(1, 1), (2, 1)]
    ):
        layer = nb.Conv2d(2, 3, kernel, stride=stride, padding=padding, dilation=dilation).to(backend)
        expected = [
            (size + 2 * pad - d * (k - 1) - 1) // s + 1
            for size, k, s, pad, d in zip((height, width), kernel, stride, padding, dilation, strict=True)
        ]
        batch = zeros(4, 2, height, width)
        assert layer(batch).shape == layer.output_shape(batch.shape) == (4, 3, *expected)
        assert layer(batch[0][np.newaxis]).shape == (1, 3, *expected)


@row("C4")
def convolution_parameters(backend):
    for (k1, k2), d_in, d_out in itertools.product([(1, 1), (3, 3), (5, 2)], [1, 3, 8], [1, 6]):
        assert count(nb.Conv2d(d_in, d_out, (k1, k2)).to(backend)) == k1 * k2 * d_in * d_out + d_out


@row("C5")
def strides_on_seven(backend):
    for stride, size in ((1, 5), (2, 3), (3, 2)):
        assert nb.Conv2d(1, 1, 3, stride=stride).to(backend)(zeros(1, 1, 7, 7)).shape == (1, 1, size, size)


@row("C6")
def padding_that_keeps_the_size(backend):
    for kernel in (1, 3, 5, 7):
        for padding in ((kernel - 1) // 2, "same"):
            layer = nb.Conv2d(1, 1, kernel, padding=padding).to(backend)
            assert layer(zeros(1, 1, 7, 7)).shape == (1, 1, 7, 7)


@row("C7")
def five_filters(backend):
    for stride, size in ((1, 28), (3, 10)):
        layer = nb.Conv2d(3, 5, 5, stride=stride).to(backend)
        assert layer(zeros(1, 3, 32, 32)).shape == (1, 5, size, size)
        assert count(layer) == 380
    connected = nb.Sequential(nb.Flatten(), nb.Dense(3 * 32 * 32, 5), backend=backend)
    assert connected(zeros(1, 3, 32, 32)).shape == (1, 5)
    assert count(connected) == 15_365


@row("C8")
def many_filters(backend):
    assert nb.Conv2d(3, 200, 5).to(backend)(zeros(1, 3, 32, 32)).shape == (1, 200, 28, 28)


@row("C9")
def pooling_by_hand(backend):
    x = image([1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 1, 3, 4])
    np.testing.assert_array_equal(nb.AvgPool2d(2, stride=2).to(backend)(x), image([3.25, 5.25], [1.75, 2.0]))
    np.testing.assert_array_equal(nb.MaxPool2d(2, stride=2).to(backend)(x), image([6, 8], [3, 4]))


@row("C10")
def overlapping_pool(backend):
    assert nb.MaxPool2d(3, stride=2).to(backend)(zeros(1, 1, 7, 7)).shape == (1, 1, 3, 3)


@row("C11")
def padding_modes(backend):
    x = image([1, 2, 3], [4, 5, 6], [7, 8, 9])
    rows = {
        "zeros": ([0, 0, 0, 0, 0], {"mode": "zeros"}),
        "constant": ([7, 7, 7, 7, 7], {"value": 7}),
        "symmetric": ([1, 1, 2, 3, 3], {"mode": "symmetric"}),
        "circular": ([9, 7, 8, 9, 7], {"mode": "circular"}),
    }
    for mode, (first_row, arguments) in rows.items():
        padded = nb.Pad2d(1, **arguments).to(backend)(x)
        np.testing.assert_array_equal(padded[0, 0, 0], first_row)
        np.testing.assert_array_equal(padded[:, :, 1:-1, 1:-1], x)
        # The same as an argument of the convolution.
        kernel = [[[[1, 10, 0], [0, 0, 0], [0, 0, 0]]]]
        layer = conv(backend, kernel, padding=1, padding_mode=mode, padding_value=arguments.get("value", 0))
        y = layer(x)
        np.testing.assert_array_equal(y, conv(backend, kernel)(padded))
        assert y.shape == x.shape


@row("C12")
def max_pool_backward(backend):
    x = image([1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 1, 3, 4])
    _, backprop = nb.MaxPool2d(2).to(backend).forward(x)
    dx = backprop(image([10, 20], [30, 40]))
    np.testing.assert_array_equal(dx, image([0, 0, 0, 0], [0, 10, 0, 20], [30, 0, 0, 0], [0, 0, 0, 40]))
    # Windows of 3 x 3 in steps of 1: the 7 wins only the left ones, the 8 both right ones, and theirs add up.
    y, backprop = nb.MaxPool2d(3, stride=1).to(backend).forward(x)
    np.testing.assert_array_equal(y, image([7, 8], [7, 8]))
    dx = backprop(image([1, 20], [300, 4000]))
    np.testing.assert_array_equal(dx, image([0, 0, 0, 0], [0, 0, 301, 4020], [0, 0, 0, 0], [0, 0, 0, 0]))


@row("C13")
def two_strided_layers(backend):
    model = nb.Sequential(
        nb.Conv2d(1, 1, 3, stride=2, padding=1), nb.Conv2d(1, 1, 3, stride=2, padding=1), backend=backend
    )
    assert shapes(model, (1, 5, 5)) == [(1, 3, 3), (1, 2, 2)]


@row("C14")
def receptive_field(backend):
    def seen(*layers, size=15):
        """Height and width of the part of the input that the middle output depends on."""
        model = nb.Sequential(*layers, backend=backend)
        y, backprop = model.forward(zeros(1, 1, size, size))
        dy = np.zeros_like(y)
        dy[0, 0, y.shape[2] // 2, y.shape[3] // 2] = 1
        rows, columns = np.nonzero(backprop(dy)[0, 0])
        return np.ptp(rows) + 1, np.ptp(columns) + 1

    def ones(kernel, **arguments):
        return conv(backend, np.ones((1, 1, kernel, kernel)), **arguments)

    def told(*layers):
        return nb.inspect.receptive_field(nb.Sequential(*layers, backend=backend)).rows[-1].size

    for layers, expected in (((3, 3), 5), ((3, 3, 3), 7)):
        stacked = [ones(kernel) for kernel in layers]
        assert seen(*stacked) == told(*stacked) == (expected, expected)
    for kernel, dilation in itertools.product([2, 3, 5], [1, 2, 3]):
        span = dilation * (kernel - 1) + 1
        layer = ones(kernel, dilation=dilation)
        assert seen(layer) == told(layer) == (span, span)


@row("C15")
def sum_over_a_box_plus_bias(backend):
    rng = np.random.default_rng(15)
    x = rng.normal(size=(2, 3, 6, 7)).astype(np.float32)
    kernels = rng.normal(size=(4, 3, 3, 2)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    y = conv(backend, kernels, bias)(x)
    assert y.shape == (2, 4, 4, 6)
    for n, k, i, j in np.ndindex(*y.shape):
        box = x[n, :, i : i + 3, j : j + 2].astype(np.float64)
        assert y[n, k, i, j] == pytest.approx((box * kernels[k]).sum() + bias[k], rel=1e-5, abs=1e-5)
