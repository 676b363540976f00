"""The normal distribution's Phi as arithmetic that LLVM turns into vector code, as in ``vecmath``.

    Phi(-a) = exp(-a^2 / 2) t P(t),  t = 4 / (4 + a),  a >= 0        Phi(a) = 1 - Phi(-a)

P is the polynomial of degree 9 whose relative error on 0 < t <= 1 is the least, 3.4e-8; that is for float32.
In float64 the C library's erfc is called, one element at a time: only tests of gradients go that way. Errors
stay below 1e-7 of Phi near zero, and grow with x^2 in the tail, where that of the exponential does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from nbconv_kernels.cpu import vecmath

_P = tuple(
    np.float32(coefficient)
    for coefficient in (
        *(0.0997355667, 0.0997364316, 0.0934663546, 0.0816031191, 0.0589750764),
        *(0.063699389, -0.0317181147, 0.0955977962, -0.0808777617, 0.0197821258),
    )
)


def normal_cdf(x: Any) -> Any:
    """Phi(x), the probability that a standard normal number is less than x, inside a kernel."""
    raise NotImplementedError("normal_cdf is for kernels")


# Numba inlines it, as it is too long for LLVM to do that. The order of its additions does not matter.
@overload(normal_cdf, inline="always")
def _choose(x):
    if x == types.float64:
        root = math.sqrt(0.5)
        return lambda x: 0.5 * math.erfc(-x * root)
    if x != types.float32:
        return None
    one, four, minus_half = np.float32(1), np.float32(4), np.float32(-0.5)

    def single(x):
        t = four / (four + abs(x))
        p = _P[9]
        p = p * t + _P[8]
        p = p * t + _P[7]
        p = p * t + _P[6]
        p = p * t + _P[5]
        p = p * t + _P[4]
        p = p * t + _P[3]
        p = p * t + _P[2]
        p = p * t + _P[1]
        p = p * t + _P[0]
        below = vecmath.exp(minus_half * x * x) * t * p
        return one - below if x > 0 else below

    return single
