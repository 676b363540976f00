"""Pooling on CUDA, beyond the parity table: indices that are the backend's own, and bad ones."""

import gc
import importlib

import numpy as np
import pytest
from parity_cases import DILATED_POOLS, POOLS

from nbconv_kernels import reference

pytest.importorskip("cuda.bindings", reason="the CUDA kernels are compiled by numba-cuda")
pool = pytest.importorskip("nbconv_kernels.cuda.pool")
remembered = importlib.import_module("nbconv_kernels.cuda.pool.places")


@pytest.mark.parametrize("name", POOLS | DILATED_POOLS)
def test_gradients_at_its_own_indices_are_those_at_any(name, monkeypatch):
    """The windows around a pixel follow from the geometry where it is known."""
    shape, kernel, kwargs = (POOLS | DILATED_POOLS)[name]
    rng = np.random.default_rng(3)
    y, indices = pool.max_pool2d(rng.normal(size=shape).astype(np.float32), kernel, **kwargs)
    dy = rng.normal(size=y.shape).astype(np.float32)
    monkeypatch.setattr(remembered, "_named", lambda *_: pytest.fail("the indices should be known"))
    dx, unpooled = pool.max_pool2d_backward(dy, indices, shape), pool.max_unpool2d(y, indices, shape)
    dy_of_y = pool.max_unpool2d_backward(dx, indices)
    monkeypatch.undo()
    of_others = np.copy(indices)
    np.testing.assert_array_equal(dx, pool.max_pool2d_backward(dy, of_others, shape))
    np.testing.assert_array_equal(unpooled, reference.max_unpool2d(y, of_others, shape))
    np.testing.assert_array_equal(dy_of_y, reference.max_unpool2d_backward(dx, of_others))
    exact = reference.max_pool2d_backward(dy.astype(np.float64), of_others, shape)
    np.testing.assert_allclose(dx, exact, rtol=1e-5, atol=1e-5)


def test_indices_are_forgotten_with_their_array():
    gc.collect()
    before = len(remembered._made)
    _, indices = pool.max_pool2d(np.zeros((1, 1, 4, 4), np.float32), 2)
    assert len(remembered._made) == before + 1
    del indices
    gc.collect()
    assert len(remembered._made) == before


def test_indices_may_name_any_pixel():
    """Also pixels far from any window of a pooling, and one pixel many times."""
    rng = np.random.default_rng(5)
    shape, windows = (2, 5, 9, 11), (2, 5, 4, 6)
    dy = rng.normal(size=windows).astype(np.float32)
    for indices in (rng.integers(0, 99, windows), np.full(windows, 37), np.zeros(windows, np.uint8)):
        dx = pool.max_pool2d_backward(dy, indices, shape)
        np.testing.assert_allclose(
            dx, reference.max_pool2d_backward(dy, indices, shape), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_array_equal(
            pool.max_unpool2d(dy, indices, shape), reference.max_unpool2d(dy, indices, shape)
        )


@pytest.mark.parametrize("bad", [-1, 99, 2**40])
def test_indices_outside_are_refused(bad):
    indices = np.zeros((2, 5, 4, 6), np.int64)
    indices[1, 2, 3, 4] = indices[0, 0, 0, 0] = bad
    dy, dx = np.ones(indices.shape, np.float32), np.ones((2, 5, 9, 11), np.float32)
    with pytest.raises(ValueError, match="max_pool2d_backward: 2 indices lie outside"):
        pool.max_pool2d_backward(dy, indices, dx.shape)
    with pytest.raises(ValueError, match="max_unpool2d: 2 indices lie outside"):
        pool.max_unpool2d(dy, indices, dx.shape)
    with pytest.raises(ValueError, match="max_unpool2d_backward: 2 indices lie outside"):
        pool.max_unpool2d_backward(dx, indices)


@pytest.mark.parametrize("windows", [(2, 5, 0, 3), (0, 5, 2, 2), (2, 5, 2, 0)])
def test_without_windows_there_are_zeros(windows):
    dy, indices = np.ones(windows, np.float32), np.ones(windows, np.int32)
    shape = (windows[0], 5, 4, 6)
    for dx in (pool.max_pool2d_backward(dy, indices, shape), pool.max_unpool2d(dy, indices, shape)):
        np.testing.assert_array_equal(dx, np.zeros(shape, np.float32))
    assert pool.max_unpool2d_backward(np.ones(shape, np.float32), indices).shape == windows


@pytest.mark.parametrize("special", [np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_windows_that_padding_cuts(size, special):
    """Of equal maxima the first is named, of NaNs the last, also where taps lie outside of the input."""
    rng = np.random.default_rng(size)
    x = rng.integers(0, 3, (3, 8, 7, 6)).astype(np.float32)
    x[rng.uniform(0, 1, x.shape) < 0.3] = special
    for stride, padding, ceil_mode in ((1, 1, False), (2, 1, True), (size, ((1, 0), (0, 1)), True)):
        y, indices = pool.max_pool2d(x, size, stride, padding, ceil_mode=ceil_mode)
        expected, places = reference.max_pool2d(x, size, stride, padding, ceil_mode=ceil_mode)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(indices, places)
