"""Arrays of the reference backend, and the checks that every op begins with.

4-D activations have shape (N, C, H, W) over channels-last memory: ``x.transpose(0, 2, 3, 1)`` is
C-contiguous. Results have that layout whatever the layout of the arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Infinities and NaN propagate silently, as they do in compiled kernels.
quiet = np.errstate(all="ignore")


def check_float(op: str, *arrays: Array | None) -> np.dtype[Any]:
    """The arrays' common dtype, float32 or float64; None stands for an argument left out.

    Raises:
        TypeError: for any other dtype, or when the arrays differ in it.
    """
    dtype = None
    for array in arrays:
        if array is None:
            continue
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{op}: expected NumPy arrays, got {type(array).__name__}")
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"{op}: expected float32 or float64, got {array.dtype}")
        if dtype is not None and array.dtype != dtype:
            raise TypeError(f"{op}: expected arrays of one dtype, got {dtype} and {array.dtype}")
        dtype = array.dtype
    if dtype is None:
        raise TypeError(f"{op}: expected at least one array")
    return dtype


def check_shape(op: str, name: str, array: Array | None, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless ``array``, if there is one, has the shape expected of it."""
    if array is not None and array.shape != tuple(expected):
        raise ValueError(f"{op}: expected {name} of shape {tuple(expected)}, got shape {array.shape}")


def check_rank(op: str, name: str, array: Array, layout: str) -> None:
    """Raise ValueError unless ``array`` has as many axes as ``layout``, such as "(N, C, H, W)", names."""
    if array.ndim != layout.count(",") + 1:
        raise ValueError(f"{op}: expected {name} of shape {layout}, got shape {array.shape}")


def laid_out(x: Array) -> Array:
    """``x`` in the layout of results: channels-last if it has four axes, else C-contiguous."""
    if x.ndim == 4:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    # Not ascontiguousarray, which would give an array without axes one.
    return np.asarray(x, order="C")
