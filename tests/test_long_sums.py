"""Sums of millions of float32 terms, all positive, against float64: none comes to a standstill.

A sum in one float32 would stop at 2^24 equal terms, and lose a few per cent of random ones long before.
"""

import numpy as np
import pytest

from nbconv_kernels import cpu

SIDE = 2048
COUNT = SIDE * SIDE


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    return (rng.random((1, 1, SIDE, SIDE), dtype=np.float32) + np.float32(0.5)).astype(np.float32)


def error(value, exact):
    return np.max(np.abs(np.asarray(value, np.float64) - exact)) / abs(exact)


SUMS = {
    "adaptive_avg_pool2d": lambda x: cpu.adaptive_avg_pool2d(x, 1) * np.float32(COUNT),
    "avg_pool2d": lambda x: cpu.avg_pool2d(x, SIDE) * np.float32(COUNT),
    "batch_norm2d_statistics": lambda x: cpu.batch_norm2d_statistics(x)[0] * np.float32(COUNT),
    "batch_norm2d_backward": lambda x: cpu.batch_norm2d_backward(x, x, *cpu.batch_norm2d_statistics(x))[2],
    "conv2d_backward_bias": cpu.conv2d_backward_bias,
    "dense_backward_bias": lambda x: cpu.dense_backward_bias(x.reshape(-1, 1)),
    "l1_loss": lambda x: cpu.l1_loss(x, 0 * x, "sum")[0],
    "prelu_backward": lambda x: -cpu.prelu_backward(x, 0 * x - 1, np.ones(1, np.float32))[1],
    "group_norm_backward": lambda x: cpu.group_norm_backward(x, x, 1, np.ones(1, np.float32))[2],
    "conv2d_backward_weight": lambda x: cpu.conv2d_backward_weight(0 * x + 1, x, (1, 1, 1, 1)),
    "conv2d_backward_weight of windows": lambda x: cpu.conv2d_backward_weight(
        0 * x + 1, x, (1, 1, 3, 3), padding=1
    )[0, 0, 1, 1],
    "dense_backward_weight": lambda x: cpu.dense_backward_weight(0 * x.reshape(-1, 1) + 1, x.reshape(-1, 1)),
    "dense": lambda x: cpu.dense(x.reshape(1, -1), 0 * x.reshape(1, -1) + 1),
}


@pytest.mark.parametrize("name", SUMS)
def test_is_exact_to_some_roundings(image, name):
    """Products are summed in float32 by blocks or lanes, all else in float64."""
    limit = 5e-5 if "weight" in name or name == "dense" else 3e-7
    assert error(SUMS[name](image), image.astype(np.float64).sum()) < limit
