"""The reference maxout, unpooling, concatenation and dropout of channels."""

import numpy as np
import pytest
from oracles import distinct, finite_differences

from nbconv_kernels import reference as ops


@pytest.mark.parametrize(
    ("shape", "pieces"), [((4, 6), 2), ((2, 6, 3, 2), 3), ((2, 4, 2, 3), 4), ((3, 5), 1)]
)
def test_maxout_is_a_maximum_over_consecutive_channels(shape, pieces):
    x = distinct(shape)
    grouped = x.reshape(shape[0], -1, pieces, *shape[2:])
    y, which = ops.maxout(x, pieces)
    np.testing.assert_array_equal(y, grouped.max(axis=2))
    np.testing.assert_array_equal(which, grouped.argmax(axis=2))
    dy = np.random.default_rng(0).standard_normal(y.shape)
    expected = finite_differences(lambda x: ops.maxout(x, pieces)[0], [x], 0, dy)
    np.testing.assert_allclose(ops.maxout_backward(dy, which, pieces), expected, rtol=1e-7, atol=1e-8)


def test_maxout_of_ties_and_nan():
    nan = np.nan
    x = np.array([[1.0, 1, 0, 2, nan, 9, nan, nan, 5]])
    y, which = ops.maxout(x, 3)
    np.testing.assert_array_equal(y, [[1, nan, nan]])
    np.testing.assert_array_equal(which, [[0, 1, 1]])


def test_maxout_of_the_lecture():
    """T1: max(w1 x + b1, w2 x + b2)."""
    x, weight, bias = np.array([[1.0, -2.0]]), np.array([[1.0, 0], [0, 1]]), np.array([0.5, -0.5])
    np.testing.assert_array_equal(ops.maxout(ops.dense(x, weight, bias), 2)[0], [[1.5]])


def test_unpooling_agrees_with_pytorch_and_finite_differences():
    x = distinct((2, 3, 6, 8))
    y, indices = ops.max_pool2d(x, 2)
    back = ops.max_unpool2d(y, indices, x.shape)
    np.testing.assert_array_equal(back, np.where(np.isin(x, y), x, 0))
    dy = np.random.default_rng(0).standard_normal(x.shape)
    dx = ops.max_unpool2d_backward(dy, indices)
    expected = finite_differences(lambda y: ops.max_unpool2d(y, indices, x.shape), [y], 0, dy)
    np.testing.assert_allclose(dx, expected, rtol=1e-7, atol=1e-8)
    torch = pytest.importorskip("torch")
    t = torch.tensor(y, requires_grad=True)
    expected = torch.nn.functional.max_unpool2d(t, torch.tensor(indices.astype(np.int64)), 2)
    expected.backward(torch.tensor(dy))
    np.testing.assert_array_equal(back, expected.detach())
    np.testing.assert_array_equal(dx, t.grad)


def test_unpooling_of_overlapping_windows_keeps_the_last():
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1
    _, indices = ops.max_pool2d(x, 2, 1)
    assert (indices == 4).all()
    y = ops.max_unpool2d(np.arange(4.0).reshape(1, 1, 2, 2), indices, x.shape)
    assert y[0, 0, 1, 1] == 3
    assert np.count_nonzero(y) == 1
    np.testing.assert_array_equal(ops.max_unpool2d_backward(y, indices), np.full((1, 1, 2, 2), 3))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4), (2, 3, 4)])
def test_concat_and_split_are_inverse(shape):
    parts = [distinct((shape[0], c, *shape[2:]), c) for c in (3, 1, 4)]
    whole = ops.concat(parts)
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=1))
    for part, back in zip(parts, ops.split(whole, [3, 1, 4]), strict=True):
        np.testing.assert_array_equal(back, part)
        assert not np.shares_memory(back, whole)
    np.testing.assert_array_equal(ops.take_channels(whole, 3, 1), parts[1])
    total = parts[2].copy()
    ops.accumulate_channels(total, whole, 4)
    np.testing.assert_array_equal(total, 2 * parts[2])
    alone = ops.concat(parts[:1])
    np.testing.assert_array_equal(alone, parts[0])
    assert not np.shares_memory(alone, parts[0])
    roomy = ops.concat(parts[:2], 8)
    np.testing.assert_array_equal(roomy[:, 4:], np.zeros_like(parts[2]))
    ops.put_channels(roomy, parts[2], 4)
    np.testing.assert_array_equal(roomy, whole)


def test_dropout2d_drops_whole_channels_by_the_same_numbers():
    x = np.random.default_rng(0).uniform(1, 2, (5, 7, 3, 2))
    y = ops.dropout2d(x, 0.4, 11, 3)
    factors = ops.dropout(np.ones((5, 7)), 0.4, 11, 3)
    assert 0 < np.count_nonzero(factors) < 35
    np.testing.assert_array_equal(y, x * factors[:, :, None, None])
    np.testing.assert_array_equal(ops.dropout2d(x, 0, 11, 3), x)
    np.testing.assert_array_equal(ops.dropout2d(x, 1, 11, 3), np.zeros_like(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 2])
def test_dtype_and_layout_of_the_results(dtype, n):
    x = np.ones((n, 4, 2, 3), dtype)
    y, which = ops.maxout(x, 2)
    indices = np.zeros(x.shape, np.int32)
    assert which.dtype == np.int32
    results = {
        "maxout": (y, (n, 2, 2, 3)),
        "which": (which, (n, 2, 2, 3)),
        "maxout backward": (ops.maxout_backward(y, which, 2), x.shape),
        "unpool": (ops.max_unpool2d(x, indices, (n, 4, 5, 5)), (n, 4, 5, 5)),
        "unpool backward": (ops.max_unpool2d_backward(x, indices), x.shape),
        "concat": (ops.concat([x, y]), (n, 6, 2, 3)),
        "split": (ops.split(x, [1, 3])[1], (n, 3, 2, 3)),
        "dropout2d": (ops.dropout2d(x, 0.5, 0, 0), x.shape),
    }
    for name, (array, shape) in results.items():
        assert array.shape == shape, name
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous, name
        assert array.dtype == (np.int32 if name == "which" else dtype), name
    flat, which = ops.maxout(np.ones((n, 6), dtype), 3)
    flats = [flat, which, ops.maxout_backward(flat, which, 3), *ops.split(flat, [1, 1]), ops.concat([flat])]
    assert all(array.flags.c_contiguous for array in flats)


def test_what_is_wrong():
    x, which = np.ones((2, 6)), np.zeros((2, 3), np.int32)
    image, indices = np.ones((1, 2, 3, 3)), np.zeros((1, 2, 3, 3), np.int32)
    with pytest.raises(ValueError, match=r"C a multiple of pieces=4, got shape \(2, 6\)"):
        ops.maxout(x, 4)
    with pytest.raises(ValueError, match=r"expected \(N, C\) or \(N, C, H, W\), .* got shape \(2, 3, 2\)"):
        ops.maxout(x.reshape(2, 3, 2), 3)
    with pytest.raises(ValueError, match="pieces must be positive, got 0"):
        ops.maxout(x, 0)
    with pytest.raises(TypeError, match="expected an int32 array of pieces, got int64"):
        ops.maxout_backward(x[:, :3], which.astype(np.int64), 2)
    with pytest.raises(ValueError, match=r"expected which of shape \(2, 6\), got shape \(2, 3\)"):
        ops.maxout_backward(x, which, 2)
    with pytest.raises(ValueError, match=r"pieces from 2 to 2 are not all in 0 \.\. 1"):
        ops.maxout_backward(x[:, :3], which + 2, 2)
    with pytest.raises(ValueError, match="indices from 9 to 9 do not lie in an input of 3 x 3"):
        ops.max_unpool2d(image, indices + 9, image.shape)
    with pytest.raises(ValueError, match="indices from -1 to -1 do not lie in an input of 3 x 3"):
        ops.max_unpool2d_backward(image, indices - 1)
    with pytest.raises(ValueError, match=r"expected indices of shape \(1, 2, 3, 3\), got shape \(1, 2, 3\)"):
        ops.max_unpool2d(image, indices[:, :, 0], image.shape)
    with pytest.raises(ValueError, match=r"expected x of shape \(1, 4, 3, 3\), got shape \(1, 2, 3, 3\)"):
        ops.max_unpool2d(image, indices, (1, 4, 6, 6))
    with pytest.raises(TypeError, match="expected an array of integer indices, got float64"):
        ops.max_unpool2d(image, image, image.shape)
    with pytest.raises(ValueError, match=r"differ in C only, got shapes \(2, 6\), \(1, 6\)"):
        ops.concat([x, x[:1]])
    with pytest.raises(ValueError, match=r"differ in C only, got shapes \(2, 6\), \(1, 2, 3, 3\)"):
        ops.concat([x, image])
    with pytest.raises(TypeError, match="expected at least one array"):
        ops.concat([])
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.concat([x, x.astype(np.float32)])
    with pytest.raises(ValueError, match=r"cannot part an array of shape \(2, 6\) into \[2, 3\] channels"):
        ops.split(x, [2, 3])
    with pytest.raises(ValueError, match=r"into \[7, -1\] channels"):
        ops.split(x, [7, -1])
    with pytest.raises(ValueError, match=r"an array of shape \(2, 6\) has no channels 4 to 7"):
        ops.take_channels(x, 4, 3)
    with pytest.raises(ValueError, match=r"has no channels -1 to 1"):
        ops.take_channels(x, -1, 2)
    with pytest.raises(ValueError, match=r"an array of shape \(2, 3\) has no channels 0 to 6"):
        ops.accumulate_channels(x, x[:, :3], 0)
    with pytest.raises(ValueError, match=r"differ in C only, got shapes \(2, 6\) and \(1, 6\)"):
        ops.accumulate_channels(x, x[:1], 0)
    with pytest.raises(ValueError, match="6 channels have no room in 5"):
        ops.concat([x], 5)
    with pytest.raises(ValueError, match=r"an array of shape \(2, 6\) has no channels 4 to 7"):
        ops.put_channels(x, x[:, :3].copy(), 4)
    with pytest.raises(ValueError, match=r"differ in C only, got shapes \(2, 6\) and \(1, 6\)"):
        ops.put_channels(x, x[:1], 0)
    with pytest.raises(ValueError, match=r"an input of shape \(N, C, H, W\), got shape \(2, 6\)"):
        ops.dropout2d(x, 0.5, 0, 0)
    with pytest.raises(ValueError, match=r"p must be between 0 and 1, got 1\.5"):
        ops.dropout2d(image, 1.5, 0, 0)
