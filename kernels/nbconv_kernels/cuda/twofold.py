"""Sums of twice float32's digits: a number kept as two, the second being what the first has lost.

After Knuth (The Art of Computer Programming 2, 4.2.2) the rounding error of a sum is itself a sum of float32
numbers. Where the first number is infinite or NaN, so is the sum, and the second has no meaning.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.target import cuda, float32

_libdevice = cuda.libdevice


@device_function
def is_finite(value) -> Any:
    """Whether it is neither infinite nor NaN."""
    return value - value == float32(0)


@device_function
def plus(high, low, value) -> Any:
    """(high, low) + value."""
    total = high + value
    part = total - high
    return total, low + ((high - (total - part)) + (value - part))


@device_function
def joined(high, low, other_high, other_low) -> Any:
    """(high, low) + (other_high, other_low)."""
    total, lost = plus(high, low + other_low, other_high)
    result = total + lost
    return (result if is_finite(total) else total), lost - (result - total)


@device_function
def product(a, b) -> Any:
    """The product, never fused with a sum that follows, and what it has lost."""
    rounded = _libdevice.fmul_rn(a, b)
    return rounded, _libdevice.fmaf_rn(a, b, -rounded)
