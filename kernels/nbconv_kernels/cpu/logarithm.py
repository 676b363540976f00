"""log and log1p as arithmetic that LLVM turns into vector code, as in ``vecmath``.

    x = 2^n z,  sqrt(1/2) <= z < sqrt(2)                 the exponent's bits give n, the others z
    log z = 2 atanh(s) = 2 (s + s^3 / 3 + s^5 / 5 + ...),  s = (z - 1) / (z + 1),  |s| < 0.172
    log x = n ln 2 + log z                               ln 2 in two parts, so that n times the first is exact

    log1p(x) = log(u) + (x - (u - 1)) / u,  u = 1 + x    the last term is what rounding took from u

Errors stay below 2 units in the last place. log gives -inf for 0 and NaN below; log1p is for x >= 0. Limit: a
division and about 15 multiply-adds an element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from nbconv_kernels.cpu.vecmath import EXACT, scalar


@intrinsic
def _exponent_and_rest(typing_context: Any, x: Any, least: Any) -> Any:
    """(n, z), both of x's type, with x = 2^n z and ``least`` <= z < 2 * ``least``, for normal x > 0."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        double = signature.args[0] == types.float64
        integer = ir.IntType(64 if double else 32)
        mantissa = integer(52 if double else 23)
        bits, origin = (builder.bitcast(value, integer) for value in values)
        exponent = builder.ashr(builder.sub(bits, origin), mantissa)
        rest = builder.sub(bits, builder.shl(exponent, mantissa))
        kind = values[0].type
        pair = (builder.sitofp(exponent, kind), builder.bitcast(rest, kind))
        return context.make_tuple(builder, signature.return_type, pair)

    return types.UniTuple(x, 2)(x, least), codegen


def _family(real: type, terms: int, ln2: tuple[float, float]) -> dict[str, Any]:
    """The functions for one dtype, with so many ``terms`` of the series."""
    smallest = real(np.finfo(real).tiny)
    lift, lifted = real(2.0**64), real(64)
    least = real(math.sqrt(0.5))
    ln2_high, ln2_low = real(ln2[0]), real(ln2[1])
    zero, half, one, two = real(0), real(0.5), real(1), real(2)
    infinity, nan = real(math.inf), real(math.nan)
    series = tuple(real(2 / (2 * k + 1)) for k in range(terms + 1))

    @scalar
    def log(x):
        subnormal = x < smallest
        n, z = _exponent_and_rest(x * lift if subnormal else x, least)
        n -= lifted if subnormal else zero
        f = z - one
        s = f / (two + f)
        square = s * s
        tail = zero
        for k in range(terms, 0, -1):
            tail = tail * square + series[k]
        # 2 s = f - s f, but f is exact: what follows it is added up from the small end.
        half_square = half * f * f
        rest = s * (half_square + square * tail) + n * ln2_low
        value = n * ln2_high - ((half_square - rest) - f)
        value = infinity if x == infinity else value
        value = -infinity if x == zero else value
        return value if x >= zero else nan

    @scalar
    def log1p(x):
        u = one + x
        return log(u) + (x - (u - one)) / u

    return {"log": log, "log1p": log1p}


_FAMILY = {
    types.float32: _family(np.float32, 5, (0.693359375, -2.12194440054690583e-4)),
    types.float64: _family(np.float64, 10, (6.93147180369123816490e-01, 1.90821492927058770002e-10)),
}


def log(x: Any) -> Any:
    """The natural logarithm, inside a kernel."""
    raise NotImplementedError("log is for kernels")


def log1p(x: Any) -> Any:
    """log(1 + x) without loss near zero, for x >= 0, inside a kernel."""
    raise NotImplementedError("log1p is for kernels")


def _by_dtype(function: Callable[..., Any]) -> None:
    """Let ``function`` stand for the one of the same name that fits its argument's dtype."""

    @overload(function, jit_options=EXACT)
    def choose(x):
        return _FAMILY[x][function.__name__].py_func if x in _FAMILY else None


for _function in (log, log1p):
    _by_dtype(_function)
