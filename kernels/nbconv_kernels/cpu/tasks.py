"""How the work of a kernel is cut into tasks, and how it sees an array as one row of memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nbconv_kernels.cpu.jit import get_num_threads, kernel
from nbconv_kernels.cpu.memory import Array, empty, empty_nchw, nhwc

_SMALL = 1 << 15  # elements that one thread sweeps in about the time a parallel region costs


def task_count(elements: int) -> int:
    """Tasks for a sweep over ``elements``: one a thread, or only one where there is little to do.

    It depends on the number of threads set, not on those free at the moment, so that sums are split alike.
    """
    return get_num_threads() if elements > _SMALL else 1


@kernel
def share(total, task, n_tasks):
    """(first, last) of a task's elements among 0 .. ``total``, in multiples of a cache line's 16 floats.

    Slice arrays to these and loop from 0: of an index that starts at ``first`` Numba cannot tell that it is
    not negative, which would count from the end, and LLVM then reads element by element.
    """
    lines = (total + 15) // 16
    return min(total, lines * task // n_tasks * 16), min(total, lines * (task + 1) // n_tasks * 16)


def row_of(x: Array) -> Array:
    """The elements of ``x`` as they lie in the backend's memory: channels last for 4-D, row-major otherwise.

    A view where the memory is like that already, else a copy.
    """
    return (nhwc(x) if x.ndim == 4 else np.ascontiguousarray(x)).reshape(-1)


class Rows(NamedTuple):
    """(N, C, H, W) as ``count`` rows of channels, ``pitch`` elements apart in the 1-D array ``row``."""

    row: Array
    count: int
    channels: int
    pitch: int


def rows_of(x: Array) -> Rows:
    """The pixels of (N, C, H, W), each a row: those of channels-last memory, or a range of its channels.

    So the first channels of a growing concatenation are read without a copy. Anything else is copied.
    """
    n, channels, height, width = x.shape
    count, pitch = n * height * width, x.strides[3] // x.itemsize
    if not is_range_of_channels(x):
        return Rows(row_of(x), count, channels, channels)
    length = (count - 1) * pitch + channels
    row = as_strided(x, (length,), (x.itemsize,), writeable=x.flags.writeable)
    return Rows(row, count, channels, pitch)


def is_range_of_channels(x: Array) -> bool:
    """Whether (N, C, H, W) are some neighbouring channels, but not all, of channels-last memory."""
    _, channels, height, width = x.shape
    pitch = x.strides[3] // x.itemsize
    strides = (height * width * pitch, 1, width * pitch, pitch)
    return x.size > 0 and pitch > channels and x.strides == tuple(x.itemsize * stride for stride in strides)


def empty_as(x: Array) -> Array:
    """An uninitialised array of the shape and dtype of ``x`` whose ``row_of`` is a view."""
    return empty_nchw(*x.shape, x.dtype) if x.ndim == 4 else empty(x.shape, x.dtype)


def check_same_shape(op: str, **arrays: Array) -> None:
    """Raise a ValueError unless both named arrays have the same shape."""
    (name, first), (other, second) = arrays.items()
    if first.shape != second.shape:
        raise ValueError(
            f"{op}: expected {name} and {other} of one shape, got {first.shape} and {second.shape}"
        )
