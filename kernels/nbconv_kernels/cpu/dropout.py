"""Dropout (Srivastava et al. 2014) whose mask is a function of the element's number, not a stream.

Element i is kept if u(i) >= p, where u(i) = (word >> 8) * 2**-24 and the word is number i % 4 of ``philox``'s
counter i // 4. Elements are numbered as they lie in memory, (N, H, W, C) for 4-D arrays. No mask is stored:
the backward pass draws it again, on any number of threads.

Limit: the generator. Dropout of whole channels draws by the channel's number, n * C + c, and is limited by
memory bandwidth.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.philox import BLOCKS, philox
from nbconv_kernels.cpu.tasks import empty_as, row_of, share, task_count

__all__ = ["dropout", "dropout2d"]

_TO_24_BITS = np.uint32(8)


@kernel
def _dropout_task(task, n_tasks, x, threshold, scale, seed, offset, y):
    first, last = share(x.size, task, n_tasks)
    zero = x.dtype.type(0)
    state, words = np.empty((4, BLOCKS), np.uint32), np.empty(4 * BLOCKS, np.uint32)
    for start in range(first, last, words.size):
        philox(start // 4, offset, seed, state, words)
        stop = min(last, start + words.size)
        values, out = x[start:stop], y[start:stop]
        for i in range(values.size):
            out[i] = values[i] * (scale if words[i] >> _TO_24_BITS >= threshold else zero)


@kernel
def _dropout(n_tasks, x, threshold, scale, seed, offset, y, n_threads):
    parallel_for(_dropout_task, n_tasks, n_threads, (n_tasks, x, threshold, scale, seed, offset, y))


def dropout(x: Array, p: float, seed: int, offset: int) -> Array:
    """``x * keep / (1 - p)``: each element is zeroed with probability p, the others grow to keep the mean.

    It is its own gradient: ``dropout(dy, p, seed, offset)``. ``offset`` numbers the calls that share a seed.
    A factor of 0 leaves NaN and turns infinity to NaN, as in PyTorch. p = 0 copies, p = 1 zeroes.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: if p is not a probability, or seed or offset is not an unsigned 64-bit number.
    """
    dtype = check_float("dropout", x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be between 0 and 1, got {p}")
    for name, value in (("seed", seed), ("offset", offset)):
        if not 0 <= operator.index(value) < 1 << 64:
            raise ValueError(f"dropout: {name} must be an unsigned 64-bit number, got {value}")
    y = empty_as(x)
    # u >= p in whole numbers: u is a multiple of 2**-24, so p may be rounded up to one.
    threshold = np.uint32(math.ceil(p * 2.0**24))
    scale = dtype.type(1 / (1 - p) if p < 1 else 0)
    key = (np.uint64(seed), np.uint64(offset))
    _dropout(task_count(x.size), row_of(x), threshold, scale, *key, row_of(y), get_num_threads())
    return y


@kernel
def _scale_channels_task(task, n_tasks, x, factors, y, pixels):
    images, channels = factors.shape
    for row in range(images * pixels * task // n_tasks, images * pixels * (task + 1) // n_tasks):
        start, stop = row * channels, (row + 1) * channels
        values, factor, out = x[start:stop], factors[row // pixels], y[start:stop]
        for c in range(channels):
            out[c] = values[c] * factor[c]


@kernel
def _scale_channels(n_tasks, x, factors, y, pixels, n_threads):
    parallel_for(_scale_channels_task, n_tasks, n_threads, (n_tasks, x, factors, y, pixels))


def dropout2d(x: Array, p: float, seed: int, offset: int) -> Array:
    """``dropout`` of whole channels of (N, C, H, W) (Tompson et al. 2015).

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: if ``x`` is not 4-D, p is not a probability, or seed or offset is not an unsigned 64-bit
            number.
    """
    dtype = check_float("dropout2d", x)
    if x.ndim != 4:
        raise ValueError(f"dropout2d: expected an array of shape (N, C, H, W), got shape {x.shape}")
    factors = dropout(np.ones(x.shape[:2], dtype), p, seed, offset)
    y = empty_as(x)
    pixels = x.shape[2] * x.shape[3]
    _scale_channels(task_count(x.size), row_of(x), factors, row_of(y), pixels, get_num_threads())
    return y
