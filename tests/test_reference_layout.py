"""The reference layout ops: conversions, flattening, addition."""

import numpy as np
import pytest

from nbconv_kernels import reference as ops


def test_channels_last_copies_once():
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    y = ops.channels_last(x)
    np.testing.assert_array_equal(y, x)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert not np.shares_memory(x, y)
    assert np.shares_memory(ops.channels_last(y), y)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 5), (4, 7)])
def test_flatten_goes_in_channel_order_and_back(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    if x.ndim == 4:
        x = ops.channels_last(x)
    flat = ops.flatten(x)
    assert flat.flags.c_contiguous
    assert flat.shape == (shape[0], np.prod(shape[1:]))
    np.testing.assert_array_equal(flat.ravel(), np.arange(x.size))
    back = ops.unflatten(flat, shape)
    np.testing.assert_array_equal(back, x)
    if x.ndim == 4:
        assert back.transpose(0, 2, 3, 1).flags.c_contiguous


def test_add_and_accumulate():
    a, b = np.arange(120.0).reshape(2, 3, 4, 5), np.ones((2, 3, 4, 5))
    y = ops.add(a, b)
    np.testing.assert_array_equal(y, a + 1)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    before = y
    assert ops.accumulate(y, b) is None
    assert y is before
    np.testing.assert_array_equal(y, a + 2)


def test_arrays_in_and_out():
    assert ops.name == "reference"
    x = np.ones(3, np.float32)
    assert ops.asarray(x) is x
    assert ops.to_numpy(x) is x
    assert ops.asarray([1, 2], np.float32).dtype == np.float32


def test_every_name_is_there():
    assert all(hasattr(ops, name) for name in ops.__all__)


def test_what_is_wrong():
    x = np.ones((2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"expected an array of shape \(N, C, H, W\), got shape \(2, 3\)"):
        ops.channels_last(x[:, :, 0, 0])
    with pytest.raises(ValueError, match=r"expected an array of shape \(N, ...\), got shape \(5,\)"):
        ops.flatten(x[0, 0, 0])
    with pytest.raises(ValueError, match=r"expected an array of shape \(2, 60\), got shape \(2, 59\)"):
        ops.unflatten(np.ones((2, 59)), x.shape)
    with pytest.raises(
        ValueError, match=r"expected arrays of one shape, got \(2, 3, 4, 5\) and \(1, 3, 4, 5\)"
    ):
        ops.add(x, x[:1])
    with pytest.raises(
        ValueError, match=r"expected arrays of one shape, got \(2, 3, 4, 5\) and \(1, 3, 4, 5\)"
    ):
        ops.accumulate(x, x[:1])
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.accumulate(x, x.astype(np.float32))
