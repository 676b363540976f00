"""The weight gradient's ways for channels that lie a multiple of 512 bytes apart, and for many of them."""

import numpy as np
import pytest

import nbconv as nb
from nbconv_kernels import cpu, reference

# N, C, H, W, K, kernel, stride, padding: several blocks of pixels with a part of one at the end, several
# panels, whole and short tiles of rows, taps in the padding, few pixels for many channels
SHAPES = [
    (2, 128, 17, 19, 40, 1, 1, 0),
    (3, 128, 14, 15, 29, 1, 2, 0),
    (2, 256, 9, 11, 17, 3, 2, 1),
    (1, 128, 23, 7, 33, (3, 5), 1, (1, 2)),
    (1, 384, 6, 5, 320, 1, 1, 0),
    (2, 192, 13, 11, 70, 1, 1, 0),
]
LIMIT = {np.float32: 1e-6, np.float64: 1e-14}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_the_reference(shape, threads, dtype):
    n, c, h, w, k, kernel, stride, padding = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, h, w)).astype(dtype)
    weight_shape = (k, c, *(kernel if isinstance(kernel, tuple) else (kernel, kernel)))
    out = reference.conv2d(x[:1], np.zeros(weight_shape, dtype), None, stride, padding).shape[2:]
    dy = rng.standard_normal((n, k, *out)).astype(dtype)
    expected = reference.conv2d_backward_weight(
        dy.astype(np.float64), x.astype(np.float64), weight_shape, stride, padding
    )
    before = nb.get_num_threads()
    nb.set_num_threads(threads)
    try:
        gradient = cpu.conv2d_backward_weight(dy, x, weight_shape, stride, padding)
    finally:
        nb.set_num_threads(before)
    assert np.linalg.norm(gradient - expected) < LIMIT[dtype] * np.linalg.norm(expected)


def test_what_is_no_number_stays_in_its_channels():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 128, 12, 13)).astype(np.float32)
    dy = rng.standard_normal((1, 40, 12, 13)).astype(np.float32)
    x[0, 70, 3, 4], dy[0, 21, 11, 12] = np.nan, np.inf
    gradient = cpu.conv2d_backward_weight(dy, x, (40, 128, 1, 1))[:, :, 0, 0]
    assert np.isnan(gradient[:, 70]).all()
    assert not np.isfinite(gradient[21]).any()
    assert np.isfinite(np.delete(np.delete(gradient, 21, axis=0), 70, axis=1)).all()
