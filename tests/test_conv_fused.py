"""Convolutions with an epilogue and with weights that are kept: every algorithm against the reference."""

import numpy as np
import pytest

from nbconv_kernels import reference
from nbconv_kernels.cpu import conv
from nbconv_kernels.cpu.conv import depthwise, direct, winograd
from nbconv_kernels.cpu.conv.target import Target
from nbconv_kernels.cpu.epilogue import finish_of
from nbconv_kernels.geometry import conv2d_geometry

# algorithm, N, C, H, W, K, kernel, keyword arguments
SHAPES = [
    (direct, (2, 5, 9, 8), (37, 5, 3, 3), {"padding": 1}),
    (direct, (1, 3, 16, 17), (40, 3, 7, 7), {"padding": 3, "stride": 2}),
    (direct, (2, 6, 5, 5), (8, 3, 3, 3), {"groups": 2}),
    (winograd, (2, 32, 9, 14), (64, 32, 3, 3), {"padding": 1}),
    (depthwise, (2, 21, 9, 12), (21, 1, 3, 3), {"padding": 1, "groups": 21}),
    (depthwise, (1, 40, 13, 15), (40, 1, 3, 5), {"padding": (1, 2), "stride": 2, "groups": 40}),
]
CASES = pytest.mark.parametrize(("algorithm", "x_shape", "w_shape", "options"), SHAPES)
LIMIT = {np.float32: 1e-5, np.float64: 1e-13}  # of the relative error, as for Winograd without epilogue


def nhwc(array):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def operands(x_shape, w_shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1])]


@CASES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("add", [False, True])
def test_the_epilogue(algorithm, x_shape, w_shape, options, dtype, activation, add):
    x, weight, bias = operands(x_shape, w_shape, dtype)
    g = conv2d_geometry(x_shape, w_shape, **options)
    out = np.random.default_rng(1).standard_normal((g.n, g.k + 7, g.p, g.q)).astype(dtype)
    expected = out.astype(np.float64)
    exact = (array.astype(np.float64) for array in (x, weight, bias))
    reference.conv2d_onto(expected, *exact, **options, activation=activation, channel=4, add=add)
    y = nhwc(out)
    algorithm.forward(nhwc(x), weight, bias, g, Target(y, 4, finish_of("test", activation, add)))
    assert np.linalg.norm(y.transpose(0, 3, 1, 2) - expected) < LIMIT[dtype] * np.linalg.norm(expected)


@CASES
def test_kept_weights_are_not_read_again(algorithm, x_shape, w_shape, options):
    x, weight, bias = operands(x_shape, w_shape, np.float32)
    g = conv2d_geometry(x_shape, w_shape, **options)
    kept = {}
    first = algorithm.forward(nhwc(x), weight, bias, g, None, kept).copy()
    np.testing.assert_array_equal(first, algorithm.forward(nhwc(x), weight, bias, g))
    other = np.full_like(weight, np.nan)
    direct.forward(nhwc(x), other, bias, g)  # which uses the same scratch memory
    bias = bias if algorithm is winograd else np.full_like(bias, np.nan)
    np.testing.assert_array_equal(algorithm.forward(nhwc(x), other, bias, g, None, kept), first)


@CASES
def test_nan_passes_through_the_bounds(algorithm, x_shape, w_shape, options):
    x, weight, bias = operands(x_shape, w_shape, np.float32)
    x[0, :, 0, 0] = np.nan
    g = conv2d_geometry(x_shape, w_shape, **options)
    y = np.empty((g.n, g.p, g.q, g.k), np.float32)
    algorithm.forward(nhwc(x), weight, bias, g, Target(y, 0, finish_of("test", "relu6")))
    assert np.isnan(y[0, 0, 0]).any()
    plain = algorithm.forward(nhwc(x), weight, bias, g).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(plain))


def test_what_does_not_fit():
    x, weight, bias = operands((1, 4, 6, 6), (8, 4, 3, 3), np.float32)
    out = np.zeros((1, 8, 4, 4), np.float32)
    for ops in (conv, reference):
        with pytest.raises(ValueError, match="from channel 1 on"):
            ops.conv2d_onto(out, x, weight, bias, channel=1)
        with pytest.raises(ValueError, match="from channel -1 on"):
            ops.conv2d_onto(out, x, weight, bias, channel=-1)
        with pytest.raises(ValueError, match="does not fit into an array of shape"):
            ops.conv2d_onto(out[:, :, 1:], x, weight, bias)
        with pytest.raises(ValueError, match="activation must be"):
            ops.conv2d(x, weight, bias, activation="tanh")
        with pytest.raises(TypeError, match="one dtype"):
            ops.conv2d_onto(out.astype(np.float64), x, weight, bias)
