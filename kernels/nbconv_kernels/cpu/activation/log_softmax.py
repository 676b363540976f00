"""The logarithm of softmax along an axis, and its gradient.

    y = x - max - log(sum of exp(x - max))        dx = dy - exp(y) * sum of dy

Memory is seen as (outer, length, inner), as for ``softmax``: rows where the axis is the last of memory,
blocks of neighbouring columns otherwise. Limit: the exponentials, about 20 vector multiply-adds an element.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.activation.softmax import COLUMNS, exponentials, extents, rows_at_once
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.logarithm import log
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load, minus, plus, store, total


@kernel
def _rows_task(task, n_tasks, x, length, step, y):
    rows = x.size // length
    maxima, sums = np.empty(step, x.dtype), np.empty(step, x.dtype)
    end = rows * (task + 1) // n_tasks
    for first in range(rows * task // n_tasks, end, step):
        last = min(end, first + step)
        exponentials(x, y, first, last, length, maxima, sums)
        for row in range(first, last):
            maximum, shift = fill(x, maxima[row - first]), fill(x, log(sums[row - first]))
            for i in range(0, length, lanes(x)):
                at, rest = row * length + i, length - i
                store(y, at, minus(minus(load(x, at, rest), maximum), shift), rest)


@kernel
def _rows(n_tasks, x, length, step, y, n_threads):
    parallel_for(_rows_task, n_tasks, n_threads, (n_tasks, x, length, step, y))


@kernel
def _columns_task(task, n_tasks, x, y):
    outer, length, inner = x.shape
    blocks = (inner + COLUMNS - 1) // COLUMNS
    largest, sums = np.empty(COLUMNS, x.dtype), np.empty(COLUMNS, x.dtype)
    for block in range(outer * blocks * task // n_tasks, outer * blocks * (task + 1) // n_tasks):
        o = block // blocks
        first = (block - o * blocks) * COLUMNS
        width = min(COLUMNS, inner - first)
        for j in range(width):
            largest[j] = x[o, 0, first + j]
            sums[j] = 0
        for i in range(1, length):
            values = x[o, i, first : first + width]
            for j in range(width):
                largest[j] = values[j] if values[j] > largest[j] else largest[j]
        for i in range(length):
            values = x[o, i, first : first + width]
            for j in range(width):
                sums[j] += vecmath.exp(values[j] - largest[j])
        for j in range(width):
            sums[j] = log(sums[j])
        for i in range(length):
            values, out = x[o, i, first : first + width], y[o, i, first : first + width]
            for j in range(width):
                out[j] = minus(minus(values[j], largest[j]), sums[j])


@kernel
def _columns(n_tasks, x, y, n_threads):
    parallel_for(_columns_task, n_tasks, n_threads, (n_tasks, x, y))


def log_softmax(x: Array, axis: int = 1) -> Array:
    """``x - log(sum of e^x)``, the sum along ``axis``.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: when ``x`` has no such axis.
    """
    check_float("log_softmax", x)
    outer, length, inner = extents("log_softmax", x.shape, axis)
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
def _rows_backward_task(task, n_tasks, dy, y, length, dx):
    rows = y.size // length
    zero = fill(y, y.dtype.type(0))
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        start, stop = row * length, (row + 1) * length
        sums = zero
        for i in range(0, length, lanes(y)):
            sums = plus(sums, load(dy, start + i, length - i))
        whole = total(sums)
        gradient, value, out = dy[start:stop], y[start:stop], dx[start:stop]
        for i in range(length):
            out[i] = gradient[i] - vecmath.exp(value[i]) * whole


@kernel
def _rows_backward(n_tasks, dy, y, length, dx, n_threads):
    parallel_for(_rows_backward_task, n_tasks, n_threads, (n_tasks, dy, y, length, dx))


@kernel
def _columns_backward_task(task, n_tasks, dy, y, dx):
    outer, length, inner = y.shape
    blocks = (inner + COLUMNS - 1) // COLUMNS
    sums = np.empty(COLUMNS, y.dtype)
    for block in range(outer * blocks * task // n_tasks, outer * blocks * (task + 1) // n_tasks):
        o = block // blocks
        first = (block - o * blocks) * COLUMNS
        last = min(inner, first + COLUMNS)
        for j in range(last - first):
            sums[j] = 0
        for i in range(length):
            gradient = dy[o, i, first:last]
            for j in range(gradient.size):
                sums[j] += gradient[j]
        for i in range(length):
            gradient, value, out = dy[o, i, first:last], y[o, i, first:last], dx[o, i, first:last]
            for j in range(value.size):
                out[j] = gradient[j] - vecmath.exp(value[j]) * sums[j]


@kernel
def _columns_backward(n_tasks, dy, y, dx, n_threads):
    parallel_for(_columns_backward_task, n_tasks, n_threads, (n_tasks, dy, y, dx))


def log_softmax_backward(dy: Array, y: Array, axis: int = 1) -> Array:
    """Gradient of the input of a log softmax along ``axis`` with output ``y``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ or there is no such axis.
    """
    check_float("log_softmax_backward", dy, y)
    check_same_shape("log_softmax_backward", dy=dy, y=y)
    outer, length, inner = extents("log_softmax_backward", y.shape, axis)
    dx = empty_as(y)
    if y.size == 0:
        return dx
    if inner == 1:
        _rows_backward(task_count(y.size), row_of(dy), row_of(y), length, row_of(dx), get_num_threads())
    else:
        boxes = (array.reshape(outer, length, inner) for array in (row_of(dy), row_of(y), row_of(dx)))
        _columns_backward(task_count(y.size), *boxes, get_num_threads())
    return dx
