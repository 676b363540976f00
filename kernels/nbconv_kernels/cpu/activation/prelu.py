"""Rectifier with a learned slope for each channel, or one for all (He et al. 2015), and its gradients.

    y = x where x > 0, else w * x
    dx = dy where x > 0, else w * dy        dw = sum of dy * x where x <= 0

Channels are the last axis of memory. One slope for all is the same with rows of any length, here ``_ROW``.
The sums for dw are taken by each task for itself in float64, then added in the tasks' order.

Limit: memory bandwidth.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, task_count

_ROW = 256

_quiet = np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning


@kernel
def _prelu_task(task, n_tasks, x, weight, y):
    width = weight.size
    rows = (x.size + width - 1) // width
    zero = x.dtype.type(0)
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        values, out = x[row * width : (row + 1) * width], y[row * width : (row + 1) * width]
        for c in range(values.size):
            out[c] = values[c] if values[c] > zero else values[c] * weight[c]


@kernel
def _prelu(n_tasks, x, weight, y, n_threads):
    parallel_for(_prelu_task, n_tasks, n_threads, (n_tasks, x, weight, y))


def prelu(x: Array, weight: Array) -> Array:
    """X where it is positive, ``x * weight`` elsewhere: weight (1,), or (C,) for the channels, axis 1.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: for a weight of another shape.
    """
    check_float("prelu", x, weight)
    x, slopes = _channels_last("prelu", x, weight)
    y = empty_as(x)
    if x.size:
        _prelu(task_count(x.size), row_of(x), slopes, row_of(y), get_num_threads())
    return _channels_second(y, weight)


@kernel
def _prelu_backward_task(task, n_tasks, dy, x, weight, dx, sums):
    width = weight.size
    rows = (x.size + width - 1) // width
    zero = x.dtype.type(0)
    total = sums[task]
    for c in range(width):
        total[c] = 0
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        start, stop = row * width, (row + 1) * width
        gradients, values, out = dy[start:stop], x[start:stop], dx[start:stop]
        for c in range(values.size):
            out[c] = gradients[c] if values[c] > zero else gradients[c] * weight[c]
        for c in range(values.size):
            total[c] += zero if values[c] > zero else gradients[c] * values[c]


@kernel
def _prelu_backward(n_tasks, dy, x, weight, dx, sums, n_threads):
    parallel_for(_prelu_backward_task, n_tasks, n_threads, (n_tasks, dy, x, weight, dx, sums))


@_quiet
def prelu_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """(dx, dweight): ``dy`` where x > 0, ``dy * weight`` elsewhere; and the sum of dy * x where x <= 0.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ, or for a weight of another shape.
    """
    check_float("prelu_backward", dy, x, weight)
    check_same_shape("prelu_backward", dy=dy, x=x)
    dy, slopes = _channels_last("prelu_backward", dy, weight)
    x, _ = _channels_last("prelu_backward", x, weight)
    dx = empty_as(x)
    n_tasks = task_count(x.size)
    sums = np.zeros((n_tasks, slopes.size))
    if x.size:
        rows = (row_of(dy), row_of(x), slopes, row_of(dx))
        _prelu_backward(n_tasks, *rows, sums, get_num_threads())
    dweight = sums.sum(axis=0)
    if weight.shape == (1,):
        dweight = dweight.sum(keepdims=True)
    return _channels_second(dx, weight), dweight.astype(weight.dtype)


def _channels_last(op: str, x: Array, weight: Array) -> tuple[Array, Array]:
    """``x`` such that the channels follow each other in its memory, and as many slopes as repeat there."""
    if weight.shape == (1,):
        return x, np.repeat(weight, _ROW)
    if x.ndim < 2 or weight.shape != x.shape[1:2]:
        raise ValueError(f"{op}: expected a weight of shape (1,) or {x.shape[1:2]}, got shape {weight.shape}")
    return (x if x.ndim in (2, 4) else np.moveaxis(x, 1, -1)), np.ascontiguousarray(weight)


def _channels_second(y: Array, weight: Array) -> Array:
    """The inverse, for a result."""
    if weight.shape == (1,) or y.ndim in (2, 4):
        return y
    return np.ascontiguousarray(np.moveaxis(y, -1, 1))
