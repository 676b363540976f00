"""Normal noise whose value is a function of the element's number, not a stream.

Of two words of ``philox``'s counter i // 4, Box and Muller (1958) make the noise of elements i and i + 1:

    u = (word >> 8) * 2**-24
    r = sqrt(-2 log(u0 + 2**-24)),  a = 2 pi u1 - pi / 4         z0 = r cos(a),  z1 = r sin(a)

Of the 24 bits of u1, two are the quarter of the circle and 22 the way through it. A quarter begins at -pi/4,
so that Taylor's series for sine and cosine need go no further than pi/4; the quarter then swaps them and
gives their signs. CUDA's own sine and cosine keep tables for large angles in slow memory.

Elements are numbered as they lie in memory, (N, H, W, C); a thread has the four of a counter. Limit: the
generator, two logarithms and two square roots for four elements.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from nbconv_kernels.augmentation import check_noise
from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, check_float, empty_as, to_host, upload, whole
from nbconv_kernels.cuda.philox import philox
from nbconv_kernels.cuda.target import f32s, float32, int32, u32, u64, uint32

__all__ = ["gaussian_noise"]

_BLOCK = 256
_TERMS = 6
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(_TERMS))
_COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(_TERMS))
_UNIT, _STEP, _HALF = 2.0**-24, math.pi / 2 * 2.0**-22, math.pi / 4


@device_function
def _normals(word0, word1) -> Any:
    """Two normal numbers."""
    r = math.sqrt(
        float32(-2) * math.log(float32(uint32(uint32(word0 >> uint32(8)) + uint32(1))) * float32(_UNIT))
    )
    turn = uint32(word1 >> uint32(8))
    quarter = uint32(turn >> uint32(22))
    within = int32(uint32(turn & uint32((1 << 22) - 1)))
    a = float32(float32(within) * float32(_STEP) - float32(_HALF))
    square = a * a
    sine, cosine = float32(_SINE[5]), float32(_COSINE[5])
    sine, cosine = sine * square + float32(_SINE[4]), cosine * square + float32(_COSINE[4])
    sine, cosine = sine * square + float32(_SINE[3]), cosine * square + float32(_COSINE[3])
    sine, cosine = sine * square + float32(_SINE[2]), cosine * square + float32(_COSINE[2])
    sine, cosine = sine * square + float32(_SINE[1]), cosine * square + float32(_COSINE[1])
    sine, cosine = (sine * square + float32(_SINE[0])) * a, cosine * square + float32(_COSINE[0])
    swapped = uint32(quarter & uint32(1)) == uint32(1)
    across, up = (sine if swapped else cosine), (cosine if swapped else sine)
    across = -across if quarter == uint32(1) or quarter == uint32(2) else across
    up = -up if quarter >= uint32(2) else up
    return r * across, r * up


@kernel(block=_BLOCK)
def _noise(x: f32s, y: f32s, std: f32s, seed: u64, offset: u64, size: u32, n: u32):
    number = thread_index()
    i = uint32(uint32(4) * number)
    if i >= n:
        return
    a, b, c, d = philox(number, offset, seed)
    e, f = _normals(a, b)
    g, h = _normals(c, d)
    # A counter's elements may belong to several images.
    y[i] = x[i] + std[uint32(i // size)] * e
    i = uint32(i + uint32(1))
    if i < n:
        y[i] = x[i] + std[uint32(i // size)] * f
    i = uint32(i + uint32(1))
    if i < n:
        y[i] = x[i] + std[uint32(i // size)] * g
    i = uint32(i + uint32(1))
    if i < n:
        y[i] = x[i] + std[uint32(i // size)] * h


def gaussian_noise(x: Array, std: Array, seed: int, offset: int) -> Array:
    """``x`` (N, C, H, W) plus normal noise, of standard deviation ``std[n]``, (N,) float, in image n.

    ``offset`` numbers the calls that share a seed.

    Raises:
        ValueError: if shapes do not fit, std is not finite, or seed or offset is not an unsigned 64-bit
            number.
        TypeError: if x is not float32, or std is no float.
    """
    check_float("gaussian_noise", x)
    spread = to_host(std)
    check_noise(x.shape, spread, seed, offset)
    y = empty_as(x)
    if x.size:
        key = (operator.index(seed), operator.index(offset))
        arguments = (whole(x), y, upload(x, spread, np.float32), *key, x.size // x.shape[0], x.size)
        _noise[blocks(x.size, 4 * _BLOCK)](*arguments)
    return y
