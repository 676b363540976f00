"""Normalisation and losses on CUDA, beyond the parity table: digits kept, bits repeated, bad labels."""

import importlib

import numpy as np
import pytest
from test_parity import assert_close

from nbconv_kernels import cpu, reference

pytest.importorskip("cuda.bindings", reason="the CUDA kernels are compiled by numba-cuda")
pytest.importorskip("nbconv_kernels.cuda")
activation, group_norm, layer_norm, loss, margin_loss, maxout, norm = (
    importlib.import_module(f"nbconv_kernels.cuda.{room}")
    for room in ("activation", "group_norm", "layer_norm", "loss", "margin_loss", "maxout", "norm")
)


def random(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def exactly(*arrays):
    return [array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("channels", [7, 8])
def test_a_large_mean_keeps_its_variance(channels):
    """float32 has seven digits, of which a mean of 1000 takes three; sums are kept to twice as many."""
    (x,) = random((64, channels, 10, 10))
    x += 1000
    x[:, 3] += np.arange(64, dtype=np.float32)[:, None, None]
    mean, var = norm.batch_norm2d_statistics(x)
    exact_mean, exact_var = reference.batch_norm2d_statistics(x.astype(np.float64))
    np.testing.assert_allclose(mean, exact_mean, rtol=1e-7)
    np.testing.assert_allclose(var, exact_var, rtol=3e-7)


def test_a_relu_behind_statistics_that_are_no_numbers_passes_the_gradient():
    x, dy = random((2, 4, 5, 4), (2, 4, 5, 4))
    x[0, 1, 2, 0], x[1, 0, 0, 3] = np.nan, -np.inf
    weight, bias = np.array([1, -1, 2, 0.5], np.float32), np.array([0.1, 0.2, -0.3, 0], np.float32)
    mean, var = reference.batch_norm2d_statistics(x)
    exact = exactly(dy, x, mean, var, weight)
    expected = reference.batch_norm2d_backward(*exact, bias=bias.astype(np.float64), activation="relu")
    actual = norm.batch_norm2d_backward(dy, x, mean, var, weight, bias=bias, activation="relu")
    assert np.isfinite(expected[2]).all()
    assert_close(actual, expected, np.float32, 40)


def test_a_fused_relu_and_its_gradient_agree_on_every_element():
    """Also on those where rounding decides: the gradient takes the sign from the same formula."""
    x, dy = random((3, 6, 7, 5), (3, 6, 7, 5))
    x = np.round(x * 4) / 4
    mean, var = np.full(6, 0.25, np.float32), np.full(6, 0.3, np.float32)
    weight, bias = random(6, 6, seed=1)
    bias[:3] = 0
    y = norm.batch_norm2d(x, mean, var, weight, bias, activation="relu")
    _, _, dbias = norm.batch_norm2d_backward(dy, x, mean, var, weight, bias=bias, activation="relu")
    passed = np.where(y > 0, dy, 0).astype(np.float64).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(dbias, passed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [(2, 300, 1, 1), (1, 1, 3, 2), (5, 1, 30, 31), (2, 516, 3, 3), (64, 16, 8, 8)]
)
def test_any_number_of_channels(shape):
    """Fewer than a quad, tiles that end in the middle, more blocks than one sums."""
    x, dy, weight, bias = random(shape, shape, shape[1], shape[1])
    pixels = x.size // shape[1]
    mean, var = norm.batch_norm2d_statistics(x)
    assert_close((mean, var), reference.batch_norm2d_statistics(x.astype(np.float64)), np.float32, pixels)
    var = np.maximum(var, np.float32(0.1))
    exact = exactly(dy, x, mean, var, weight)
    actual = norm.batch_norm2d_backward(dy, x, mean, var, weight)
    assert_close(actual, reference.batch_norm2d_backward(*exact), np.float32, pixels)
    actual = activation.prelu_backward(dy, x, weight)
    assert_close(actual, reference.prelu_backward(*exactly(dy, x, weight)), np.float32, pixels)
    actual = group_norm.group_norm(x, shape[1] // min(shape[1], 2), weight, bias, 0.1)
    expected = reference.group_norm(exact[1], shape[1] // min(shape[1], 2), *exactly(weight, bias), 0.1)
    assert_close(actual, expected, np.float32, 4)


@pytest.mark.parametrize("shape", [(3, 5000), (70, 3)])
def test_long_and_short_rows(shape):
    x, dy, weight = random(shape, shape, shape[1])
    actual = layer_norm.layer_norm_backward(dy, x, shape[1:], weight)
    expected = reference.layer_norm_backward(*exactly(dy, x), shape[1:], weight.astype(np.float64))
    assert_close(actual, expected, np.float32, shape[0])
    labels = np.random.default_rng(0).integers(0, shape[1], shape[0])
    for room, op in ((loss, "cross_entropy"), (margin_loss, "multiclass_hinge_loss")):
        expected = getattr(reference, op)(x.astype(np.float64), labels)
        assert_close(getattr(room, op)(x, labels), expected, np.float32, shape[0])


def test_memory_at_an_odd_place_is_copied():
    """Elements one after another that begin between multiples of 16 bytes."""
    (wide,) = random(2 * 5 * 4 * 8 + 1)
    x = wide[1:].reshape(2, 5, 4, 8).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(activation.relu(x), reference.relu(x))
    assert_close(
        norm.batch_norm2d_statistics(x), reference.batch_norm2d_statistics(*exactly(x)), np.float32, 40
    )


def test_the_same_bits_every_time():
    x, dy = random((9, 12, 11, 10), (9, 12, 11, 10))
    mean, var = norm.batch_norm2d_statistics(x)
    for call in (
        lambda: norm.batch_norm2d_backward(dy, x, mean, var),
        lambda: loss.mse_loss(x, dy),
        lambda: group_norm.group_norm_backward(dy, x, 3),
    ):
        for one, other in zip(call(), call(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("labels", [[0, 4, 1], [0, 1, -1], [0, 1], [[0], [1], [2]], ["a", "b", "c"]])
@pytest.mark.parametrize("op", ["cross_entropy", "multi_margin_loss", "multiclass_hinge_loss"])
def test_labels_are_turned_down_in_the_cpus_words(op, labels):
    x = np.ones((3, 4), np.float32)
    with pytest.raises((TypeError, ValueError)) as expected:
        getattr(cpu, op)(x, np.asarray(labels))
    room = loss if op == "cross_entropy" else margin_loss
    for reduction in ("mean", "none"):
        with pytest.raises(expected.type) as raised:
            getattr(room, op)(x, np.asarray(labels), reduction=reduction)
        assert str(raised.value) == str(expected.value)


def test_weights_that_sum_to_zero_have_no_mean():
    (x,) = random((3, 4))
    labels, weight = np.array([0, 1, 1]), np.array([0, 0, 1, 1], np.float32)
    value, gradient = loss.cross_entropy(x, labels, weight)
    assert np.isnan(value)
    assert not gradient.any()
    value, gradient = loss.cross_entropy(x, np.full(3, 7), ignore_index=7)
    assert np.isnan(value)
    assert not gradient.any()


def test_pieces_of_others_are_looked_at():
    (dy,) = random((2, 3))
    y, which = maxout.maxout(np.repeat(dy, 2, axis=1), 2)
    np.testing.assert_array_equal(y, dy)
    with pytest.raises(ValueError, match=r"6 of the pieces are not in 0 \.\. 1"):
        maxout.maxout_backward(dy, which + 2, 2)
    assert maxout.maxout_backward(dy, which, 2).shape == (2, 6)
