"""CUDA convolutions in the emulator: every tile, split sums, kept filters, what is no number."""

import importlib

import numpy as np
import pytest
from emulated_banks import conflicts

from nbconv_kernels import precision, reference

pytest.importorskip("cuda.bindings", reason="the CUDA kernels are compiled by numba-cuda")
conv = importlib.import_module("nbconv_kernels.cuda.conv")
dense = importlib.import_module("nbconv_kernels.cuda.dense")
emulated = importlib.import_module("nbconv_kernels.cuda.emulated")
implicit_gemm = importlib.import_module("nbconv_kernels.cuda.conv.implicit_gemm")
tiles = importlib.import_module("nbconv_kernels.cuda.conv.tile")
weight_gradient = importlib.import_module("nbconv_kernels.cuda.conv.weight_gradient")

TILES = [tiles.LARGE, tiles.NARROW, tiles.SMALL]
LIMIT = 2e-6  # of the relative error in L2, for sums of some hundred products in float32

# x, weight, keyword arguments: more than one tile each way, margins, taps that straddle slabs
SHAPES = [
    ((2, 12, 2, 9), (20, 12, 3, 4), {"stride": 3, "padding": 2}),
    ((2, 12, 9, 8), (140, 12, 3, 3), {"padding": 1}),
    ((3, 5, 11, 9), (70, 5, 3, 2), {"stride": 2, "padding": (1, 0)}),
    ((1, 8, 13, 13), (24, 4, 3, 3), {"dilation": (2, 3), "padding": 2, "groups": 2}),
]


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    monkeypatch.setitem(emulated.checks, "race", True)
    monkeypatch.setattr(precision, "_level", "highest")


@pytest.fixture(params=TILES, ids=str)
def tile(request, monkeypatch):
    for module in (implicit_gemm, weight_gradient):
        monkeypatch.setattr(module, "best_tile", lambda *_: request.param)
    return request.param


def error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def operands(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    single = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return single, [array.astype(np.float64) for array in single]


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), SHAPES)
def test_convolutions_with_every_tile(x_shape, w_shape, options):
    (x, weight, bias), exact = operands(x_shape, w_shape, w_shape[:1])
    y = reference.conv2d(*exact, **options)
    assert error(conv.conv2d(x, weight, bias, **options), y) < LIMIT
    (dy,), (exact_dy,) = operands(y.shape, seed=1)
    expected = reference.conv2d_backward_input(exact_dy, exact[1], x_shape, **options)
    assert error(conv.conv2d_backward_input(dy, weight, x_shape, **options), expected) < LIMIT
    expected = reference.conv2d_backward_weight(exact_dy, exact[0], w_shape, **options)
    assert error(conv.conv2d_backward_weight(dy, x, w_shape, **options), expected) < LIMIT


@pytest.mark.usefixtures("tile")
def test_products_with_every_tile():
    (x, weight, bias), exact = operands((131, 44), (141, 44), (141,))
    assert error(dense.dense(x, weight, bias), reference.dense(*exact)) < LIMIT
    assert error(dense.matmul(x.T, x), exact[0].T @ exact[0]) < LIMIT
    (dy,), (exact_dy,) = operands((131, 141), seed=1)
    assert error(dense.dense_backward_input(dy, weight), exact_dy @ exact[1]) < LIMIT
    assert error(dense.dense_backward_weight(dy, x), exact_dy.T @ exact[0]) < LIMIT


@pytest.mark.usefixtures("tile")
def test_warps_do_not_wait_for_banks(monkeypatch):
    (x, weight, dy), _ = operands((1, 16, 5, 5), (72, 16, 1, 1), (1, 72, 5, 5))

    def run():
        conv.conv2d(x, weight)
        conv.conv2d_backward_weight(dy, x, weight.shape)
        dense.dense(x.reshape(25, 16), weight.reshape(72, 16))

    accesses, waits = conflicts(monkeypatch, run)
    assert accesses > 1000
    assert waits == 0


@pytest.mark.parametrize("splits", [1, 3, 50])
def test_sums_may_be_split_in_any_way(splits, monkeypatch):
    for module in (implicit_gemm, weight_gradient):
        monkeypatch.setattr(module, "split_count", lambda *_: splits)
    x_shape, w_shape, options = SHAPES[2]
    (x, weight, bias), exact = operands(x_shape, w_shape, w_shape[:1])
    y = reference.conv2d(*exact, **options, activation="relu6")
    assert error(conv.conv2d(x, weight, bias, **options, activation="relu6"), y) < LIMIT
    (dy,), (exact_dy,) = operands(y.shape, seed=1)
    expected = reference.conv2d_backward_weight(exact_dy, exact[0], w_shape, **options)
    assert error(conv.conv2d_backward_weight(dy, x, w_shape, **options), expected) < LIMIT


@pytest.mark.parametrize("groups", [1, 12])
def test_kept_filters_are_not_made_again(groups):
    (x, weight, bias), _ = operands((2, 12, 6, 5), (12, 12 // groups, 3, 3), (12,))
    kept = {}
    first = conv.conv2d(x, weight, bias, groups=groups, kept=kept)
    np.testing.assert_array_equal(first, conv.conv2d(x, weight, bias, groups=groups))
    again = conv.conv2d(x, np.full_like(weight, np.nan), bias, groups=groups, kept=kept)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("groups", [1, 6])
def test_what_is_no_number_passes_through_the_bounds(groups, splits, monkeypatch):
    monkeypatch.setattr(implicit_gemm, "split_count", lambda *_: splits)
    (x, weight, bias), _ = operands((1, 6, 6, 7), (6, 6 // groups, 3, 3), (6,))
    x[0, 2, 3, 3] = np.nan
    plain = conv.conv2d(x, weight, bias, groups=groups)
    assert np.isnan(plain).any()
    assert not np.isnan(plain).all()
    bounded = conv.conv2d(x, weight, bias, groups=groups, activation="relu6")
    np.testing.assert_array_equal(np.isnan(bounded), np.isnan(plain))
    assert np.nanmax(bounded) <= 6
    assert np.nanmin(bounded) >= 0


def test_pixels_outside_the_share_do_not_count():
    # The last slab of pixels reaches beyond them, and channels beyond a group's into padding.
    (dy, x), exact = operands((1, 3, 3, 3), (1, 5, 3, 3))
    x[...], exact[1][...] = np.inf, np.inf
    dy[...] = 1
    assert np.isposinf(conv.conv2d_backward_weight(dy, x, (3, 5, 1, 1))).all()
    assert np.isposinf(conv.conv2d(x, np.ones((3, 5, 1, 1), np.float32))).all()


def test_tiles_are_chosen_by_the_problem():
    assert tiles.best_tile(32 * 56 * 56, 256) == tiles.LARGE
    assert tiles.best_tile(32 * 56 * 56, 64) == tiles.NARROW
    assert tiles.best_tile(100, 10) == tiles.SMALL
    assert tiles.split_count(1000, 500) == 1
    assert tiles.split_count(4, 500) > 8
    assert tiles.split_count(4, 3) == 1
