"""Dropout (Srivastava et al. 2014) with a counter-based generator: the mask is a function, not a stream.

Element i of a call is kept if u(i) >= p, where u(i) is word i % 4 of Philox4x32-10 (Salmon, Moraes, Dror and
Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) with

    key     = (seed low, seed high)                                     32-bit words
    counter = (i // 4 low, i // 4 high, offset low, offset high)
    u       = (word >> 8) * 2**-24

i counts the elements in the order of the channels-last memory: (N, H, W, C) for four axes, row order for any
other number. So every backend draws the same mask, in any order and on any number of threads, and the
backward pass draws it again instead of storing it. Dropout of whole channels counts these instead of
elements: i = n * C + c.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_rank, laid_out, quiet

_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85


@quiet
def dropout(x: Array, p: float, seed: int, offset: int) -> Array:
    """``x * keep / (1 - p)``: each element is zeroed with probability p, the others grow to keep the mean.

    It is its own gradient: ``dropout(dy, p, seed, offset)``. ``offset`` numbers the calls that share a seed.
    A factor of 0 leaves NaN and turns infinity to NaN, as in PyTorch. p = 0 copies, p = 1 zeroes.

    Returns:
        An array of x's shape; channels-last if it has four axes, else C-contiguous.

    Raises:
        ValueError: if p is not a probability, or seed or offset is not an unsigned 64-bit number.
        TypeError: if x is neither float32 nor float64.
    """
    dtype = check_float("dropout", x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be between 0 and 1, got {p}")
    flat = (x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).ravel()
    # In units of 2**-24, which are exact: u >= p must mean the same in every backend and dtype.
    keep = (random_words(flat.size, seed, offset) >> np.uint32(8)) >= p * 2.0**24
    factor = dtype.type(1 / (1 - p) if p < 1 else 0)
    y = flat * np.where(keep, factor, dtype.type(0))
    if x.ndim == 4:
        n, c, h, w = x.shape
        return y.reshape(n, h, w, c).transpose(0, 3, 1, 2)
    return y.reshape(x.shape)


@quiet
def dropout2d(x: Array, p: float, seed: int, offset: int) -> Array:
    """``dropout`` of whole channels of x (N, C, H, W) (Tompson et al. 2015).

    Returns:
        An array of x's shape, channels-last.

    Raises:
        ValueError: if x has not four axes, p is not a probability, or seed or offset is not an unsigned
            64-bit number.
        TypeError: if x is neither float32 nor float64.
    """
    dtype = check_float("dropout2d", x)
    check_rank("dropout2d", "an input", x, "(N, C, H, W)")
    factors = dropout(np.ones(x.shape[:2], dtype), p, seed, offset)
    return laid_out(x * factors[:, :, None, None])


def random_words(count: int, seed: int, offset: int) -> Array:
    """The first ``count`` words that ``dropout`` draws for a seed and an offset, uint32.

    Raises:
        ValueError: if seed or offset is not an unsigned 64-bit number.
    """
    for name, value in (("seed", seed), ("offset", offset)):
        if not 0 <= operator.index(value) < 1 << 64:
            raise ValueError(f"dropout: {name} must be an unsigned 64-bit number, got {value}")
    block = np.arange(-(-count // 4), dtype=np.uint64)
    counter = (block & _WORD, block >> 32, np.uint64(offset & _WORD), np.uint64(offset >> 32))
    words = philox4x32(counter, (seed & _WORD, seed >> 32))
    return np.stack(words, axis=-1).astype(np.uint32).reshape(-1)[:count]


def philox4x32(counter: Sequence[Any], key: tuple[int, int], rounds: int = 10) -> tuple[Array, ...]:
    """Philox4x32: four random words for each counter of four, as uint64 arrays with values below 2**32."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    k0, k1 = key
    for _ in range(rounds):
        product0, product1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & np.uint64(_WORD),
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & np.uint64(_WORD),
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return c0, c1, c2, c3
