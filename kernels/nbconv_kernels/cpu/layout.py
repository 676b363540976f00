"""Layout and plain arithmetic of arrays: conversions, flattening, addition.

Between channels-last memory (N, H, W, C) and the row-major (N, C, H, W) that ``flatten`` gives lies, for each
image, a transposition of a matrix of pixels by channels. It is done in squares of as many rows as a vector
has lanes, transposed in registers. Where C or H * W is 1, both are the same.

Limit: memory bandwidth.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty, empty_nchw, nhwc
from nbconv_kernels.cpu.tasks import (
    check_same_shape,
    empty_as,
    is_range_of_channels,
    row_of,
    share,
    task_count,
)
from nbconv_kernels.cpu.vector import lanes, transpose_square

__all__ = ["accumulate", "add", "asarray", "channels_last", "empty_like", "flatten", "to_numpy", "unflatten"]


def asarray(x: Any, dtype: Any = None) -> Array:
    """``x`` as an array of this backend, copied only if it must be."""
    return np.asarray(x, dtype=dtype)


def to_numpy(x: Array) -> Array:
    """An array of this backend as a NumPy array: itself."""
    return np.asarray(x)


def empty_like(x: Array, shape: tuple[int, ...]) -> Array:
    """An array of ``shape`` of the dtype of ``x`` and in the layout of results, its values undefined."""
    return empty_nchw(*shape, x.dtype) if len(shape) == 4 else empty(shape, x.dtype)


@kernel
def _transpose_task(task, n_tasks, x, rows, columns, y):
    step = lanes(x)
    strips = (rows + step - 1) // step
    images = x.size // (rows * columns)
    for job in range(images * strips * task // n_tasks, images * strips * (task + 1) // n_tasks):
        image = job // strips
        row = (job - image * strips) * step
        base = image * rows * columns
        for column in range(0, columns, step):
            source, out = base + row * columns + column, base + column * rows + row
            height, width = min(step, rows - row), min(step, columns - column)
            transpose_square(x, source, columns, y, out, rows, height, width)


@kernel
def _transpose(n_tasks, x, rows, columns, y, n_threads):
    parallel_for(_transpose_task, n_tasks, n_threads, (n_tasks, x, rows, columns, y))


def transposed(matrix: Array) -> Array:
    """The transpose of a C-contiguous matrix, C-contiguous itself."""
    y = empty(matrix.shape[::-1], matrix.dtype)
    if y.size:
        _transpose(task_count(y.size), matrix.reshape(-1), *matrix.shape, y.reshape(-1), get_num_threads())
    return y


def channels_last(x: Array) -> Array:
    """``x`` (N, C, H, W) over channels-last memory, copied unless it has that already.

    Some neighbouring channels of such memory stay where they are: what needs them in one piece copies them.

    Raises:
        ValueError: for an array that is not 4-D.
    """
    if x.ndim != 4:
        raise ValueError(f"channels_last: expected an array of shape (N, C, H, W), got shape {x.shape}")
    if is_range_of_channels(x):
        return x
    if x.dtype not in (np.float32, np.float64) or not x.flags.c_contiguous:
        return nhwc(x).transpose(0, 3, 1, 2)
    return _unflattened(x, x.shape)


def flatten(x: Array) -> Array:
    """``x`` (N, C, H, W) as (N, C * H * W), in (C, H, W) order, C-contiguous. Other ranks keep their order.

    Raises:
        ValueError: for an array with fewer than two axes.
    """
    if x.ndim < 2:
        raise ValueError(f"flatten: expected an array of shape (N, ...), got shape {x.shape}")
    shape = (x.shape[0], prod(x.shape[1:]))
    if x.flags.c_contiguous or x.ndim != 4 or x.dtype not in (np.float32, np.float64):
        return np.ascontiguousarray(x).reshape(shape)
    y = empty(shape, x.dtype)
    if x.size:
        rows, columns = x.shape[2] * x.shape[3], x.shape[1]
        _transpose(task_count(x.size), row_of(x), rows, columns, y.reshape(-1), get_num_threads())
    return y


def unflatten(y: Array, shape: tuple[int, ...]) -> Array:
    """The inverse and the gradient of ``flatten``: (N, C * H * W) as ``shape`` (N, C, H, W), channels last.

    Raises:
        ValueError: if the array does not fit the shape.
    """
    flat = (shape[0], prod(shape[1:]))
    if y.shape != flat:
        raise ValueError(f"unflatten: expected an array of shape {flat} for {tuple(shape)}, got {y.shape}")
    if len(shape) != 4:
        return np.ascontiguousarray(y).reshape(shape)
    if y.dtype not in (np.float32, np.float64):
        return nhwc(y.reshape(shape)).transpose(0, 3, 1, 2)
    return _unflattened(np.ascontiguousarray(y), shape)


def _unflattened(x: Array, shape: tuple[int, ...]) -> Array:
    """The elements of a C-contiguous ``x`` as ``shape`` (N, C, H, W), their memory made channels-last."""
    n, c, h, w = shape
    if c == 1 or h * w == 1:
        return x.reshape(n, h, w, c).transpose(0, 3, 1, 2)
    y = empty_nchw(n, c, h, w, x.dtype)
    if y.size:
        _transpose(task_count(y.size), x.reshape(-1), c, h * w, row_of(y), get_num_threads())
    return y


@kernel
def _add_task(task, n_tasks, a, b, total):
    first, last = share(a.size, task, n_tasks)
    a, b, total = a[first:last], b[first:last], total[first:last]
    for i in range(a.size):
        total[i] = a[i] + b[i]


@kernel
def _add(n_tasks, a, b, total, n_threads):
    parallel_for(_add_task, n_tasks, n_threads, (n_tasks, a, b, total))


def add(a: Array, b: Array) -> Array:
    """``a + b``, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32 or both float64.
        ValueError: if the shapes differ.
    """
    check_float("add", a, b)
    check_same_shape("add", a=a, b=b)
    total = empty_as(a)
    _add(task_count(a.size), row_of(a), row_of(b), row_of(total), get_num_threads())
    return total


@kernel
def _accumulate_task(task, n_tasks, into, value):
    first, last = share(into.size, task, n_tasks)
    into, value = into[first:last], value[first:last]
    for i in range(into.size):
        into[i] += value[i]


@kernel
def _accumulate(n_tasks, into, value, n_threads):
    parallel_for(_accumulate_task, n_tasks, n_threads, (n_tasks, into, value))


def accumulate(into: Array, value: Array) -> None:
    """``into += value`` in place, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32 or both float64.
        ValueError: if the shapes differ or ``into`` is read-only.
    """
    check_float("accumulate", into, value)
    check_same_shape("accumulate", into=into, value=value)
    if not into.flags.writeable:
        raise ValueError("accumulate: expected an array that can be written to, got a read-only one")
    if into.flags.c_contiguous:
        rows = (into.reshape(-1), np.ascontiguousarray(value).reshape(-1))
    elif into.ndim == 4 and into.transpose(0, 2, 3, 1).flags.c_contiguous:
        rows = (row_of(into), row_of(value))
    else:
        np.add(into, value, out=into)
        return
    _accumulate(task_count(into.size), *rows, get_num_threads())
