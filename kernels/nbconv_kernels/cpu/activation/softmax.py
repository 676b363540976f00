"""softmax along an axis: y = exp(x - max) / sum(exp(x - max)), and its gradient dx = y * (dy - sum(dy * y)).

The maximum keeps exp from overflowing. Memory is seen as (outer, length, inner). Channels last makes inner =
1 the common case: rows, as many at a time as stay in the first cache over four sweeps. Along another axis the
kernel takes 64 neighbouring columns at a time, so that the inner loops are vectors over them.

Limit: the exponentials, about 20 vector multiply-adds an element.
"""

from __future__ import annotations

import operator
from math import prod

import numpy as np

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, task_count
from nbconv_kernels.cpu.vector import (
    fill,
    lanes,
    larger,
    largest,
    load,
    load_or,
    minus,
    plus,
    store,
    times,
    total,
)

COLUMNS = 64  # columns that are normalised together


def rows_at_once(length: int) -> int:
    """How many rows ``exponentials`` should be given: some that stay in the first cache together."""
    return max(1, 1024 // length)


@kernel
def exponentials(x, y, first, last, length, maxima, sums):
    """Write exp(x - max(x)) of the rows ``first`` .. ``last`` to ``y``; keep each row's maximum and sum.

    NaN in a row makes its sum NaN.
    """
    for row in range(first, last):
        start = row * length
        most = fill(x, x[start])
        for i in range(0, length, lanes(x)):
            most = larger(load_or(x, start + i, length - i, x[start]), most)
        maxima[row - first] = largest(most)
        for i in range(0, length, lanes(x)):
            shifted = minus(load(x, start + i, length - i), fill(x, maxima[row - first]))
            store(y, start + i, shifted, length - i)
    # All rows in one loop: short ones would leave most of it to a scalar remainder.
    block = y[first * length : last * length]
    for i in range(block.size):
        block[i] = vecmath.exp(block[i])
    for row in range(first, last):
        added = fill(x, x.dtype.type(0))
        for i in range(0, length, lanes(x)):
            added = plus(added, load(y, row * length + i, length - i))
        sums[row - first] = total(added)


@kernel
def _rows_task(task, n_tasks, x, length, step, y):
    rows = x.size // length
    maxima, sums = np.empty(step, x.dtype), np.empty(step, x.dtype)
    end = rows * (task + 1) // n_tasks
    for first in range(rows * task // n_tasks, end, step):
        last = min(end, first + step)
        exponentials(x, y, first, last, length, maxima, sums)
        for row in range(first, last):
            scale = fill(y, x.dtype.type(1) / sums[row - first])
            for i in range(0, length, lanes(x)):
                at = row * length + i
                store(y, at, times(load(y, at, length - i), scale), length - i)


@kernel
def _rows(n_tasks, x, length, step, y, n_threads):
    parallel_for(_rows_task, n_tasks, n_threads, (n_tasks, x, length, step, y))


@kernel
def _columns_task(task, n_tasks, x, y):
    outer, length, inner = x.shape
    blocks = (inner + COLUMNS - 1) // COLUMNS
    maxima, sums = np.empty(COLUMNS, x.dtype), np.empty(COLUMNS, x.dtype)
    for block in range(outer * blocks * task // n_tasks, outer * blocks * (task + 1) // n_tasks):
        o = block // blocks
        first = (block - o * blocks) * COLUMNS
        width = min(COLUMNS, inner - first)
        for j in range(width):
            maxima[j] = x[o, 0, first + j]
            sums[j] = 0
        for i in range(1, length):
            values = x[o, i, first : first + width]
            for j in range(width):
                maxima[j] = values[j] if values[j] > maxima[j] else maxima[j]
        for i in range(length):
            values, out = x[o, i, first : first + width], y[o, i, first : first + width]
            for j in range(width):
                out[j] = vecmath.exp(values[j] - maxima[j])
                sums[j] += out[j]
        for i in range(length):
            out = y[o, i, first : first + width]
            for j in range(width):
                out[j] /= sums[j]


@kernel
def _columns(n_tasks, x, y, n_threads):
    parallel_for(_columns_task, n_tasks, n_threads, (n_tasks, x, y))


def softmax(x: Array, axis: int = 1) -> Array:
    """e^x along ``axis``, divided by its sum.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: when ``x`` has no such axis.
    """
    check_float("softmax", x)
    outer, length, inner = extents("softmax", x.shape, axis)
    y = empty_as(x)
    if x.size == 0:
        return y
    source, out = row_of(x), row_of(y)
    if inner == 1:
        _rows(task_count(x.size), source, length, rows_at_once(length), out, get_num_threads())
    else:
        shape = (outer, length, inner)
        _columns(task_count(x.size), source.reshape(shape), out.reshape(shape), get_num_threads())
    return y


@kernel
def _rows_backward_task(task, n_tasks, dy, y, dx):
    rows = y.shape[0]
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        gradient, value, out = dy[row], y[row], dx[row]
        product = y.dtype.type(0)
        for i in range(value.size):
            product += gradient[i] * value[i]
        for i in range(value.size):
            out[i] = value[i] * (gradient[i] - product)


@kernel
def _rows_backward(n_tasks, dy, y, dx, n_threads):
    parallel_for(_rows_backward_task, n_tasks, n_threads, (n_tasks, dy, y, dx))


@kernel
def _columns_backward_task(task, n_tasks, dy, y, dx):
    outer, length, inner = y.shape
    blocks = (inner + COLUMNS - 1) // COLUMNS
    sums = np.empty(COLUMNS, y.dtype)
    for block in range(outer * blocks * task // n_tasks, outer * blocks * (task + 1) // n_tasks):
        o = block // blocks
        first = (block - o * blocks) * COLUMNS
        last = min(inner, first + COLUMNS)
        sums[:] = 0
        for i in range(length):
            gradient, value = dy[o, i, first:last], y[o, i, first:last]
            for j in range(value.size):
                sums[j] += gradient[j] * value[j]
        for i in range(length):
            gradient, value, out = dy[o, i, first:last], y[o, i, first:last], dx[o, i, first:last]
            for j in range(value.size):
                out[j] = value[j] * (gradient[j] - sums[j])


@kernel
def _columns_backward(n_tasks, dy, y, dx, n_threads):
    parallel_for(_columns_backward_task, n_tasks, n_threads, (n_tasks, dy, y, dx))


def softmax_backward(dy: Array, y: Array, axis: int = 1) -> Array:
    """Gradient of the input of a softmax along ``axis`` with output ``y``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ or there is no such axis.
    """
    check_float("softmax_backward", dy, y)
    check_same_shape("softmax_backward", dy=dy, y=y)
    outer, length, inner = extents("softmax_backward", y.shape, axis)
    dx = empty_as(y)
    if y.size == 0:
        return dx
    if inner == 1:
        rows = (array.reshape(outer, length) for array in (row_of(dy), row_of(y), row_of(dx)))
        _rows_backward(task_count(y.size), *rows, get_num_threads())
    else:
        boxes = (array.reshape(outer, length, inner) for array in (row_of(dy), row_of(y), row_of(dx)))
        _columns_backward(task_count(y.size), *boxes, get_num_threads())
    return dx


def extents(op: str, shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """(outer, length, inner) of memory, channels last where it is 4-D, around ``axis``."""
    ndim = len(shape)
    place = operator.index(axis)
    if not -ndim <= place < ndim:
        raise ValueError(f"{op}: expected an axis of the shape {shape}, got {axis}")
    place %= ndim
    if ndim == 4:
        shape = (shape[0], shape[2], shape[3], shape[1])
        place = (0, 3, 1, 2)[place]
    return prod(shape[:place]), shape[place], prod(shape[place + 1 :])
