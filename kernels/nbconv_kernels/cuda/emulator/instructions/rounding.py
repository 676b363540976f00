"""Rounding modes: float32 results rounded once, in the direction that is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv_kernels.cuda.emulator.types import Array, Value

__all__ = ["DIRECTED", "narrowed", "rounded_integer", "sum_to_odd", "to_integer"]

DIRECTED = ("rz", "rm", "rp")
"""Towards zero, towards minus infinity, towards plus infinity; ``rn`` is NumPy's own."""

_TO_WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def sum_to_odd(a: Value, b: Value) -> Value:
    """The sum of a and b in float64, an inexact result rounded to the neighbour with an odd last bit.

    What is rounded from there to fewer bits is rounded as if from the exact sum.
    Source: S. Boldo and G. Melquiond, Emulation of a FMA and correctly rounded sums, 2008.
    """
    a, b = np.float64(a), np.float64(b)
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    even = (np.asarray(total).view(np.uint64) & np.uint64(1)) == 0
    inexact = (error != 0) & np.isfinite(total) & np.isfinite(error)
    towards = np.where(error > 0, np.inf, -np.inf)
    return np.where(inexact & even, np.nextafter(total, towards), total)[()]


def narrowed(exact: Value, mode: str, dtype: np.dtype[Any]) -> Value:
    """float64 numbers as ``dtype``, rounded in the direction of ``mode``."""
    near = exact.astype(dtype)
    if mode == "rn":
        return near
    down = {"rm": near > exact, "rp": False, "rz": (near > exact) & (exact > 0)}[mode]
    up = {"rm": False, "rp": near < exact, "rz": (near < exact) & (exact < 0)}[mode]
    near = np.where(down, np.nextafter(near, dtype.type(-np.inf)), near)
    return np.where(up, np.nextafter(near, dtype.type(np.inf)), near)[()]


def rounded_integer(x: Value, mode: str) -> Value:
    """Floating-point numbers rounded to whole ones: ``rni``, ``rzi``, ``rmi`` or ``rpi``."""
    rounded: Array = _TO_WHOLE[mode](x)
    return rounded


def to_integer(x: Value, dtype: np.dtype[Any]) -> Value:
    """Whole floating-point numbers as integers: 0 for NaN, the nearest there is for one out of range."""
    limits = np.iinfo(dtype)
    # The greatest integers are no floating-point numbers; 2^bits is, and compares rightly.
    over = (
        x >= x.dtype.type(2.0 ** (limits.bits - (dtype.kind == "i"))) if x.dtype.itemsize > 2 else x == np.inf
    )
    under = x < (limits.min if x.dtype.itemsize > 2 else -np.inf)
    inside = np.where(over | under | np.isnan(x), x.dtype.type(0), x)
    whole = np.where(over, limits.max, np.where(under, limits.min, inside.astype(dtype).astype(dtype)))
    return whole.astype(dtype)[()]
