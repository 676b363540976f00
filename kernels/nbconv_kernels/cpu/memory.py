"""Arrays of the CPU backend: NumPy, 4-D activations channels-last under an NCHW-shaped view."""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np

from nbconv_kernels import forks

Array = np.ndarray[Any, np.dtype[Any]]
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # compared with a dtype much faster than their classes


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
        own = array.dtype
        if own not in _FLOATS:
            raise TypeError(f"{op}: expected float32 or float64, got {own}")
        if dtype is not None and own != dtype:
            raise TypeError(f"{op}: expected arrays of one dtype, got {dtype} and {own}")
        dtype = own
    if dtype is None:
        raise TypeError(f"{op}: expected at least one array")
    return dtype


def empty_nchw(n: int, c: int, h: int, w: int, dtype: Any) -> Array:
    """An uninitialised (N, C, H, W) view of channels-last memory."""
    return empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def nhwc(x: Array) -> Array:
    """The C-contiguous (N, H, W, C) array of an (N, C, H, W) one; a view if memory is channels-last."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def aligned_empty(size: int, dtype: Any) -> Array:
    """An uninitialised 1-D array that starts on a cache line, so that no vector of it crosses one."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(size + 64 // itemsize, dtype)
    skip = -raw.__array_interface__["data"][0] % 64 // itemsize
    return raw[skip : skip + size]


_POOLED = 1 << 16  # bytes from which on memory is kept; malloc keeps smaller pieces itself
_KEPT = 1 << 26  # bytes that may be kept in any case


class _Buffer:
    """Memory that arrays are made in, one after the other, and where in it a cache line begins."""

    __slots__ = ("memory", "start")

    def __init__(self, size: int) -> None:
        # Views refer to the owner of the memory, so that is what is kept.
        self.memory = np.empty(size + 64, np.uint8)
        self.start = -self.memory.__array_interface__["data"][0] % 64


def _references(buffer: _Buffer) -> int:
    return sys.getrefcount(buffer.memory)


# What that is for a buffer that no array refers to; how Python counts here differs between its versions.
_NO_VIEWS = _references(_Buffer(1))
_pool: dict[int, list[_Buffer]] = {}
_most_live = 0  # bytes that were in use at once since idle buffers were last given back
_pool_lock = threading.Lock()
forks.wait_for(_pool_lock)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised C-contiguous array, in memory that an array before it has left where there is some.

    The operating system hands out fresh memory a page at a time and clears it first, which takes longer than
    a ReLU does. A training step drops the same arrays each time, so their memory is kept: a buffer that no
    array refers to any more is given to the next of its size.
    """
    dtype = np.dtype(dtype)
    bytes_needed = math.prod(shape) * dtype.itemsize
    if bytes_needed < _POOLED:
        return np.empty(shape, dtype)
    granule = 1 << (bytes_needed.bit_length() - 4)  # sizes an eighth apart share their buffers
    size = -(-bytes_needed // granule) * granule
    with _pool_lock:
        for buffer in _pool.get(size, ()):
            if _references(buffer) == _NO_VIEWS:
                break
        else:
            _drop_idle(size)
            buffer = _Buffer(size)
            _pool.setdefault(size, []).append(buffer)
        return np.ndarray(shape, dtype, buffer.memory, buffer.start)


def _drop_idle(wanted: int) -> None:
    """Give idle buffers back before one of ``wanted`` bytes is made, if more is held than ever was in use.

    A training step's arrays come and go, so what it held at its most is what the next step will need. A
    program that has gone on to other sizes needs more than that beside what lies idle.
    """
    global _most_live
    live, held = wanted, wanted
    kept: dict[int, list[_Buffer]] = {}
    for size, buffers in _pool.items():
        kept[size] = [buffer for buffer in buffers if _references(buffer) > _NO_VIEWS]
        live += size * len(kept[size])
        held += size * len(buffers)
    _most_live = max(_most_live, live)
    if held > max(_KEPT, _most_live + _most_live // 4):
        _pool.clear()
        _pool.update(kept)
        _most_live = live


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
