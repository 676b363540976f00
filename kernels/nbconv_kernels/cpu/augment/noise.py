"""Normal noise whose value is a function of the element's number, not a stream.

Of two words of ``philox``'s counter i // 4, Box and Muller (1958) make the noise of elements i and i + 1:

    u = (word >> 8) * 2**-24
    r = sqrt(-2 log(u0 + 2**-24)),  a = 2 pi u1 - pi / 4         z0 = r cos(a),  z1 = r sin(a)

Of the 24 bits of u1, two are the quarter of the circle and 22 the way through it. A quarter begins at -pi/4,
so that Taylor's series for sine and cosine need go no further than pi/4; the quarter then swaps them and
gives their signs. That is arithmetic without branches, 128 pairs at a time in vectors.

Elements are numbered as they lie in memory, (N, H, W, C). Limit: the generator, a logarithm and a
square root.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from nbconv_kernels.augmentation import check_noise
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.logarithm import log
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.philox import BLOCKS, philox
from nbconv_kernels.cpu.tasks import empty_as, row_of, share, task_count
from nbconv_kernels.cpu.vecmath import EXACT, scalar

__all__ = ["gaussian_noise"]

_TO_24_BITS = np.uint32(8)
_QUARTER = np.uint32(22)
_WITHIN = np.uint32((1 << 22) - 1)


def _sine_and_cosine(real: type, terms: int) -> Any:
    """A function for one dtype that gives (sin a, cos a) of -pi/4 <= a < pi/4, from so many terms each."""
    sine = tuple(real((-1) ** k / math.factorial(2 * k + 1)) for k in range(terms))
    cosine = tuple(real((-1) ** k / math.factorial(2 * k)) for k in range(terms))

    @scalar
    def both(a):
        square = a * a
        s, c = sine[terms - 1], cosine[terms - 1]
        for k in range(terms - 2, -1, -1):
            s = s * square + sine[k]
            c = c * square + cosine[k]
        return s * a, c

    return both


_FAMILY = {types.float32: _sine_and_cosine(np.float32, 6), types.float64: _sine_and_cosine(np.float64, 10)}


def _circle(a: Any) -> Any:
    raise NotImplementedError("_circle is for kernels")


@overload(_circle, jit_options=EXACT)
def _choose(a):
    return _FAMILY[a].py_func if a in _FAMILY else None


@kernel
def _normals(words, z):
    """As many normal numbers as ``z`` has places, an even number."""
    number = z.dtype.type
    unit, step, half = number(2.0**-24), number(math.pi / 2 * 2.0**-22), number(math.pi / 4)
    minus_two, zero = number(-2), number(0)
    for i in range(z.size // 2):
        r = math.sqrt(minus_two * log(number((words[2 * i] >> _TO_24_BITS) + 1) * unit))
        turn = words[2 * i + 1] >> _TO_24_BITS
        quarter = turn >> _QUARTER
        s, c = _circle(number(turn & _WITHIN) * step - half)
        swapped, left, below = (quarter & 1) == 1, quarter == 1 or quarter == 2, quarter >= 2
        across, up = (s if swapped else c), (c if swapped else s)
        z[2 * i] = r * (zero - across if left else across)
        z[2 * i + 1] = r * (zero - up if below else up)


@kernel
def _noise_task(task, n_tasks, x, std, seed, offset, y):
    first, last = share(x.size, task, n_tasks)
    size = x.size // std.size
    state, words = np.empty((4, BLOCKS), np.uint32), np.empty(4 * BLOCKS, np.uint32)
    z = np.empty(words.size, x.dtype)
    for start in range(first, last, words.size):
        philox(start // 4, offset, seed, state, words)
        _normals(words, z)
        begin, stop = start, min(last, start + words.size)
        while begin < stop:  # the elements of one image after those of another
            image = begin // size
            end = min(stop, (image + 1) * size)
            values, out, noise = x[begin:end], y[begin:end], z[begin - start : end - start]
            for i in range(values.size):
                out[i] = values[i] + std[image] * noise[i]
            begin = end


@kernel
def _noise(n_tasks, x, std, seed, offset, y, n_threads):
    parallel_for(_noise_task, n_tasks, n_threads, (n_tasks, x, std, seed, offset, y))


def gaussian_noise(x: Array, std: Array, seed: int, offset: int) -> Array:
    """``x`` (N, C, H, W) plus normal noise, of standard deviation ``std[n]``, (N,) float, in image n.

    ``offset`` numbers the calls that share a seed.

    Raises:
        ValueError: if shapes do not fit, std is not finite, or seed or offset is not an unsigned 64-bit
            number.
        TypeError: if x is neither float32 nor float64, or std is no float.
    """
    dtype = check_float("gaussian_noise", x)
    check_noise(x.shape, std, seed, offset)
    y = empty_as(x)
    if x.size:
        key = (np.uint64(seed), np.uint64(offset))
        spread = np.ascontiguousarray(std, dtype)
        _noise(task_count(x.size), row_of(x), spread, *key, row_of(y), get_num_threads())
    return y
