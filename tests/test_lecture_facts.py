"""The worked numbers of the lectures, from nbconv's public API, with the row's id in the test's.

C: convolution and pooling arithmetic. P: parameter counts and shapes.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

import nbconv as nb

FACTS: dict[str, Callable[[str], None]] = {}


def row(name):
    def register(fact):
        FACTS[name] = fact
        return fact

    return register


def conv(backend, kernels, bias=None, **arguments):
    """A convolution with the given kernels (out, in, height, width)."""
    kernels = np.asarray(kernels, np.float32)
    out_channels, in_channels, *size = kernels.shape
    layer = nb.Conv2d(in_channels, out_channels, tuple(size), bias=bias is not None, **arguments).to(backend)
    layer.weight.data = kernels
    if bias is not None:
        layer.bias.data = bias
    return layer


def image(*rows):
    """One image of one channel."""
    return np.array(rows, np.float32)[np.newaxis, np.newaxis]


def zeros(*shape):
    return np.zeros(shape, np.float32)


def count(model):
    return sum(parameter.size for parameter in model.parameters())


def shapes(model, input_shape):
    """The shapes, without the batch, that an input of (C, H, W) takes on its way, by running every layer."""
    x = zeros(1, *input_shape)
    result = []
    for layer in model:
        expected = layer.output_shape(x.shape)
        x = layer(x)
        assert x.shape == expected
        result.append(x.shape[1:])
    return result


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

    assert seen(ones(3), ones(3)) == (5, 5)
    assert seen(ones(3), ones(3), ones(3)) == (7, 7)
    for kernel, dilation in itertools.product([2, 3, 5], [1, 2, 3]):
        span = dilation * (kernel - 1) + 1
        assert seen(ones(kernel, dilation=dilation)) == (span, span)


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


@row("P1")
def filter_parameters(backend):
    for (channels, filters, kernel), parameters in {
        (3, 1, 3): 28,
        (3, 8, 3): 224,
        (3, 16, 3): 448,
        (8, 16, 5): 3_216,
    }.items():
        assert count(nb.Conv2d(channels, filters, kernel).to(backend)) == parameters


@row("P2")
def small_network(backend):
    dense = [nb.Dense(16 * 16 * 16, 512), nb.ReLU(), nb.Dense(512, 4)]
    model = nb.Sequential(
        nb.Conv2d(3, 8, 3, padding="same"),
        nb.ReLU(),
        nb.Conv2d(8, 16, 5, stride=2, padding=2),
        nb.ReLU(),
        nb.Flatten(),
        *dense,
        backend=backend,
    )
    assert shapes(model, (3, 32, 32))[2::2] == [(16, 16, 16), (4096,), (512,)]
    assert shapes(model, (3, 32, 32))[-1] == (4,)
    assert sum(count(layer) for layer in dense) == 2_099_716
    assert count(model) == 2_103_156


@row("P3")
def lenet5(backend):
    model = nb.models.lenet5(backend=backend)
    met = shapes(model, (1, 32, 32))
    distinct = [shape for i, shape in enumerate(met) if i == 0 or shape != met[i - 1]]
    assert distinct == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (400,),
        (120,),
        (84,),
        (10,),
    ]


@row("P10")
def six_convolutions(backend):
    def block(channels):
        return [
            nb.Conv2d(channels, 10, 3, padding=1),
            nb.ReLU(),
            nb.Conv2d(10, 10, 3, padding=1),
            nb.ReLU(),
            nb.MaxPool2d(2),
        ]

    body = [*block(3), *block(10), *block(10)]
    connected = nb.Sequential(*body, nb.Flatten(), nb.Dense(160, 10), backend=backend)
    met = shapes(connected, (3, 32, 32))
    assert [met[4], met[9], met[14], met[-1]] == [(10, 16, 16), (10, 8, 8), (10, 4, 4), (10,)]
    counts = [count(layer) for layer in connected if count(layer)]
    assert counts == [280, 910, 910, 910, 910, 910, 1_610]

    averaged = nb.Sequential(*body, nb.AdaptiveAvgPool2d(1), nb.Flatten(), nb.Dense(10, 10), backend=backend)
    assert shapes(averaged, (3, 32, 32))[-2:] == [(10,), (10,)]
    assert count(averaged[-1]) == 110


@row("P11")
def fully_connected(backend):
    for sizes, weights, parameters in (((2, 4, 1), 12, 17), ((3, 4, 4, 2), 36, 46)):
        layers = [nb.Dense(a, b) for a, b in itertools.pairwise(sizes)]
        model = nb.Sequential(*layers, backend=backend)
        assert shapes(model, (sizes[0],)) == [(size,) for size in sizes[1:]]
        assert sum(layer.weight.size for layer in layers) == weights
        assert count(model) == parameters


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", FACTS)
def test_fact(name, backend):
    FACTS[name](backend)


def test_every_row_of_this_release_is_here():
    assert " ".join(FACTS) == "C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 C12 C13 C14 C15 P1 P2 P3 P10 P11"
