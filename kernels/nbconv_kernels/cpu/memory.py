"""Arrays of the CPU backend: NumPy, 4-D activations channels-last under an NCHW-shaped view."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def check_float(op: str, *arrays: Array | None) -> np.dtype[Any]:
    """The arrays' common dtype, float32 or float64.

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


def empty_nchw(n: int, c: int, h: int, w: int, dtype: Any) -> Array:
    """An uninitialised (N, C, H, W) view of fresh channels-last memory."""
    return np.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def nhwc(x: Array) -> Array:
    """The C-contiguous (N, H, W, C) array of an (N, C, H, W) one; a view if memory is channels-last."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def aligned_empty(size: int, dtype: Any) -> Array:
    """An uninitialised 1-D array that starts on a cache line, so that no vector of it crosses one."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(size + 64 // itemsize, dtype)
    skip = -raw.__array_interface__["data"][0] % 64 // itemsize
    return raw[skip : skip + size]


_local = threading.local()


def scratch(purpose: str, size: int, dtype: Any) -> Array:
    """A cache-line aligned 1-D array of this thread's, holding whatever its last use left in it.

    Fresh memory costs a page fault every 4 KB; this is paid once. The array for one purpose is the same one
    each time, so an op must be done with it when it returns.
    """
    key = purpose, np.dtype(dtype).char
    buffers = _local.__dict__
    buffer = buffers.get(key)
    if buffer is None or buffer.size < size:
        buffers[key] = buffer = aligned_empty(size, dtype)
    return buffer[:size]
