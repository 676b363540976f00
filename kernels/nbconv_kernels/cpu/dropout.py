"""Dropout (Srivastava et al. 2014) whose mask is a function of the element's number, not a stream.

Element i is kept if u(i) >= p, where u(i) is word i % 4 of Philox4x32-10 (Salmon, Moraes, Dror and Shaw,
"Parallel random numbers: as easy as 1, 2, 3", 2011) with

    key     = (seed low, seed high)                                     32-bit words
    counter = (i // 4 low, i // 4 high, offset low, offset high)
    u       = (word >> 8) * 2**-24

Elements are numbered as they lie in memory, (N, H, W, C) for 4-D arrays. No mask is stored: the backward pass
draws it again, on any number of threads.

Limit: twenty 32-bit multiplications and about as many exclusive ors for four elements. 64 counters go through
each round together, in vectors. Dropout of whole channels draws by the channel's number, n * C + c, and is
limited by memory bandwidth.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from nbconv_kernels.cpu.jit import kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import empty_as, row_of, share, task_count

__all__ = ["dropout", "dropout2d"]

_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_TO_24_BITS = np.uint32(8)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEP_0, _KEY_STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10
_BLOCKS = 64  # counters that go through the rounds together


@kernel
def _philox(first, offset, seed, state, words):
    """Fill ``words`` from the counters (first, offset), (first + 1, offset), ..."""
    blocks = words.size // 4
    word0, word1, word2, word3 = state[0], state[1], state[2], state[3]
    for i in range(blocks):
        word0[i], word1[i] = first + i, (first + i) >> 32
        word2[i], word3[i] = offset, offset >> _SHIFT
    key0, key1 = seed & _WORD, seed >> _SHIFT
    for _ in range(_ROUNDS):
        for i in range(blocks):
            product0, product1 = np.uint64(word0[i]) * _MULTIPLIER_0, np.uint64(word2[i]) * _MULTIPLIER_1
            word0[i], word2[i] = (
                (product1 >> _SHIFT) ^ word1[i] ^ key0,
                (product0 >> _SHIFT) ^ word3[i] ^ key1,
            )
            word1[i], word3[i] = product1, product0
        key0, key1 = (key0 + _KEY_STEP_0) & _WORD, (key1 + _KEY_STEP_1) & _WORD
    for i in range(blocks):
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = (
            word0[i],
            word1[i],
            word2[i],
            word3[i],
        )


@kernel
def _dropout_task(task, n_tasks, x, threshold, scale, seed, offset, y):
    first, last = share(x.size, task, n_tasks)
    zero = x.dtype.type(0)
    state, words = np.empty((4, _BLOCKS), np.uint32), np.empty(4 * _BLOCKS, np.uint32)
    for start in range(first, last, words.size):
        _philox(start // 4, offset, seed, state, words)
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
    _dropout(task_count(x.size), row_of(x), threshold, scale, *key, row_of(y), num_threads())
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
    _scale_channels(task_count(x.size), row_of(x), factors, row_of(y), pixels, num_threads())
    return y
