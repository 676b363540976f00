"""Products on tensor cores in the emulator, in TF32 and bf16, against the reference in float64."""

import importlib

import numpy as np
import pytest
from emulated_banks import conflicts

from nbconv_kernels import precision, reference

pytest.importorskip("cuda.bindings", reason="the CUDA kernels are compiled by numba-cuda")
choice = importlib.import_module("nbconv_kernels.cuda.conv.choice")
conv = importlib.import_module("nbconv_kernels.cuda.conv")
dense = importlib.import_module("nbconv_kernels.cuda.dense")
emulated = importlib.import_module("nbconv_kernels.cuda.emulated")
formats = importlib.import_module("nbconv_kernels.cuda.conv.formats")
tensor = importlib.import_module("nbconv_kernels.cuda.conv.tensor")
tensor_weight_gradient = importlib.import_module("nbconv_kernels.cuda.conv.tensor_weight_gradient")
tensor_gemm = importlib.import_module("nbconv_kernels.cuda.conv.tensor_gemm")

# Of the relative error in L2. TF32 keeps 11 bits of a number and bf16 keeps 8, so that products of rounded
# numbers are off by 2^-12 and 2^-9 and some, and so are sums of them.
LIMIT = {"high": 1e-3, "medium": 1e-2}
# That the short formats were used shows in an error that float32 has not.
LEAST = 1e-5

# x, weight, keyword arguments
SHAPES = [
    ((2, 12, 2, 9), (20, 12, 3, 4), {"stride": 3, "padding": 2}),
    ((2, 12, 9, 8), (70, 12, 3, 3), {"padding": 1}),
    ((1, 20, 11, 12), (24, 20, 3, 2), {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2)}),
    ((1, 34, 7, 6), (38, 17, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((3, 130, 5, 5), (131, 130, 1, 1), {}),
]


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    monkeypatch.setitem(emulated.checks, "race", True)
    for name in ("_SMALL", "_LEAST"):
        monkeypatch.setattr(tensor, name, 1)


@pytest.fixture(params=["high", "medium"])
def level(request, monkeypatch):
    monkeypatch.setattr(precision, "_level", request.param)
    return request.param


def assert_near(actual, expected, level):
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert LEAST < error < LIMIT[level]


def operands(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    single = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return single, [array.astype(np.float64) for array in single]


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), SHAPES)
def test_convolutions(x_shape, w_shape, options, level):
    (x, weight, bias), exact = operands(x_shape, w_shape, w_shape[:1])
    y = reference.conv2d(*exact, **options)
    assert_near(conv.conv2d(x, weight, bias, **options), y, level)
    (dy,), (exact_dy,) = operands(y.shape, seed=1)
    expected = reference.conv2d_backward_input(exact_dy, exact[1], x_shape, **options)
    assert_near(conv.conv2d_backward_input(dy, weight, x_shape, **options), expected, level)
    expected = reference.conv2d_backward_weight(exact_dy, exact[0], w_shape, **options)
    assert_near(conv.conv2d_backward_weight(dy, x, w_shape, **options), expected, level)


def test_products(level, monkeypatch):
    monkeypatch.setattr(dense, "_MANY", 1)
    (x, weight, bias, dy), exact = operands((67, 45), (75, 45), (75,), (67, 75))
    assert_near(dense.dense(x, weight, bias), reference.dense(*exact[:3]), level)
    assert_near(dense.dense_backward_input(dy, weight), exact[3] @ exact[1], level)
    assert_near(dense.dense_backward_weight(dy, x), exact[3].T @ exact[0], level)
    assert_near(dense.matmul(x.T, dy), exact[0].T @ exact[3], level)


@pytest.mark.parametrize("splits", [1, 3, 20])
def test_sums_over_pixels_may_be_split(splits, level, monkeypatch):
    monkeypatch.setattr(tensor_weight_gradient, "split_count", lambda *_: splits)
    (dy, x), exact = operands((3, 66, 9, 7), (3, 10, 9, 7))
    expected = reference.conv2d_backward_weight(*exact, (66, 10, 3, 3), padding=1)
    assert_near(conv.conv2d_backward_weight(dy, x, (66, 10, 3, 3), padding=1), expected, level)


def test_pixels_outside_the_share_do_not_count(level):
    del level
    x, dy = np.full((1, 5, 3, 3), np.inf, np.float32), np.ones((1, 3, 3, 3), np.float32)
    assert np.isposinf(conv.conv2d_backward_weight(dy, x, (3, 5, 1, 1))).all()
    assert np.isposinf(conv.conv2d(x, np.ones((3, 5, 1, 1), np.float32))).all()


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("channel", [0, 1])
def test_what_follows_the_sums(channel, splits, level, monkeypatch):
    monkeypatch.setattr(tensor_gemm, "split_count", lambda *_: splits)
    (x, weight, bias, out), exact = operands((1, 9, 6, 5), (12, 9, 3, 3), (12,), (1, 16, 4, 3))
    reference.conv2d_onto(exact[3], *exact[:3], activation="relu6", channel=4 * channel, add=True)
    out = np.ascontiguousarray(out.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    conv.conv2d_onto(out, x, weight, bias, activation="relu6", channel=4 * channel, add=True)
    assert_near(out, exact[3], level)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("filters", [64, 72])
def test_warps_do_not_wait_for_banks(filters, monkeypatch):
    (x, weight, dy), _ = operands((1, 16, 5, 5), (filters, 16, 1, 1), (1, filters, 5, 5))

    def run():
        conv.conv2d(x, weight)
        conv.conv2d_backward_weight(dy, x, weight.shape)

    accesses, waits = conflicts(monkeypatch, run)
    assert accesses > 1000
    assert waits == 0


@pytest.mark.usefixtures("level")
def test_kept_filters_are_not_made_again():
    (x, weight), _ = operands((1, 12, 6, 5), (20, 12, 3, 3))
    kept = {}
    first = conv.conv2d(x, weight, kept=kept)
    again = conv.conv2d(x, np.full_like(weight, np.nan), kept=kept)
    np.testing.assert_array_equal(first, again)


def test_the_level_in_force_is_that_of_the_call(monkeypatch):
    (x, weight), exact = operands((1, 12, 6, 5), (20, 12, 3, 3))
    expected, kept, errors = reference.conv2d(*exact), {}, []
    for level in ("highest", "high", "medium"):
        monkeypatch.setattr(precision, "_level", level)
        errors.append(np.abs(conv.conv2d(x, weight, kept=kept) - expected).max())
    assert errors[0] * 20 < errors[1]
    assert errors[1] * 2 < errors[2]


def test_operands_are_rounded_to_the_nearest():
    x = np.array([[1 + 2**-11, 1 + 3 * 2**-12, -1 - 2**-12, 3e38, 1e-40, np.inf, np.nan, 0]], np.float32)
    rounded = formats.staged(x, formats.TF32, 1, 8).view(np.float32).reshape(-1)
    np.testing.assert_array_equal(rounded[:3], np.float32([1 + 2**-10, 1 + 2**-10, -1]))
    assert np.isposinf(rounded[5])
    assert np.isnan(rounded[6])
    halves = formats.staged(x, formats.BF16, 1, 8).view(np.uint16).reshape(-1)
    back = (halves.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(back[:3], np.float32([1, 1, -1]))
    assert np.isposinf(back[5])
    assert np.isnan(back[6])


def test_small_problems_stay_on_cuda_cores(monkeypatch):
    monkeypatch.undo()
    g = conv.conv2d_geometry((1, 3, 8, 8), (8, 3, 3, 3))
    assert not tensor.suits(g)
    assert tensor.suits(conv.conv2d_geometry((8, 64, 28, 28), (64, 64, 3, 3)))
    assert choice.algorithm(g, np.zeros(1, np.float32)).__name__.endswith("direct")
