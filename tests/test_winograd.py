"""Winograd's convolution against the reference in float64, and when it is chosen."""

import numpy as np
import pytest

import nbconv as nb
from nbconv_kernels import reference
from nbconv_kernels.cpu import conv, jit
from nbconv_kernels.cpu.conv import depthwise, direct, winograd
from nbconv_kernels.geometry import conv2d_geometry

# N, C, H, W, K, padding: few tiles for their channels and many, whole tiles and parts of tiles, one and
# several panels, no and wide borders; the last two: channels in parts, tiles in chunks and rows in blocks
SHAPES = [
    (2, 32, 8, 8, 32, 1),
    (1, 64, 9, 7, 32, 1),
    (3, 32, 12, 13, 96, 2),
    (2, 64, 6, 11, 64, 0),
    (1, 128, 14, 14, 64, ((1, 0), (0, 2))),
    (0, 32, 8, 8, 32, 1),
    (2, 32, 23, 25, 64, 1),
    (1, 192, 7, 9, 160, 1),
    (2, 448, 7, 6, 96, 1),
    (9, 192, 15, 16, 192, 1),
]
LIMIT = {np.float32: 1e-5, np.float64: 1e-13}


def relative(value, exact):
    return np.linalg.norm(value - exact) / max(np.linalg.norm(exact), 1e-300)


def operands(shape, dtype):
    n, c, h, w, k, padding = shape
    rng = np.random.default_rng(0)
    g = conv2d_geometry((n, c, h, w), (k, c, 3, 3), padding=padding)
    x = rng.standard_normal((n, h, w, c)).astype(dtype)
    weight = rng.standard_normal((k, c, 3, 3)).astype(dtype)
    dy = rng.standard_normal((n, g.p, g.q, k)).astype(dtype)
    return g, x, weight, rng.standard_normal(k).astype(dtype), dy


def exact(*arrays):
    return [array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_the_reference(shape, dtype):
    g, x, weight, bias, dy = operands(shape, dtype)
    padding = shape[5]
    assert winograd.suits(g, np.dtype(dtype).itemsize)
    x64, weight64, bias64, dy64 = exact(x, weight, bias, dy)
    x64, dy64 = x64.transpose(0, 3, 1, 2), dy64.transpose(0, 3, 1, 2)
    y = reference.conv2d(x64, weight64, bias64, padding=padding)
    dx = reference.conv2d_backward_input(dy64, weight64, g.input_shape, padding=padding)
    dweight = reference.conv2d_backward_weight(dy64, x64, g.weight_shape, padding=padding)
    assert relative(winograd.forward(x, weight, bias, g), y) < LIMIT[dtype]
    assert relative(winograd.backward_input(dy, weight, g), dx) < LIMIT[dtype]
    assert relative(winograd.backward_weight(dy, x, g), dweight) < LIMIT[dtype]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_twice(threads):
    if threads > jit.get_num_threads():
        pytest.skip("Numba was started with fewer threads")
    g, x, weight, bias, dy = operands((3, 64, 13, 10, 64, 1), np.float32)
    before = jit.get_num_threads()
    jit.set_num_threads(threads)
    try:
        for run in (
            lambda: winograd.forward(x, weight, bias, g),
            lambda: winograd.backward_input(dy, weight, g),
            lambda: winograd.backward_weight(dy, x, g),
        ):
            first = run().copy()
            for _ in range(3):
                np.testing.assert_array_equal(run(), first)
    finally:
        jit.set_num_threads(before)


def test_is_chosen_where_it_pays():
    wide = conv2d_geometry((8, 64, 32, 32), (64, 64, 3, 3), padding=1)
    few_tiles = conv2d_geometry((1, 512, 2, 2), (512, 512, 3, 3), padding=1)
    strided = conv2d_geometry((8, 64, 32, 32), (64, 64, 3, 3), stride=2, padding=1)
    five = conv2d_geometry((8, 64, 32, 32), (64, 64, 5, 5), padding=2)
    by_channel = conv2d_geometry((8, 64, 32, 32), (64, 1, 3, 3), padding=1, groups=64)
    assert conv.algorithm(wide, 4) is winograd
    assert conv.algorithm(wide, 4, weight_gradient=True) is winograd
    assert conv.algorithm(wide, 8) is direct  # who asks for float64 asks for digits
    assert conv.algorithm(few_tiles, 4) is direct
    assert conv.algorithm(strided, 4) is direct
    assert conv.algorithm(five, 4) is direct
    assert conv.algorithm(by_channel, 4) is depthwise


def test_the_highest_precision_is_direct():
    g, x, weight, bias, _ = operands((4, 64, 24, 24, 64, 1), np.float32)
    image = x.transpose(0, 3, 1, 2)
    y = reference.conv2d(*exact(image, weight, bias), padding=1)
    assert conv.algorithm(g, 4) is winograd
    fast = relative(conv.conv2d(image, weight, bias, padding=1), y)
    nb.set_precision("highest")
    try:
        assert conv.algorithm(g, 4) is direct
        slow = relative(conv.conv2d(image, weight, bias, padding=1), y)
    finally:
        nb.set_precision("high")
    assert slow < 1e-6
    assert slow < fast < 1e-5
