"""What L2 regularisation needs of the weights W: their squares for the loss, themselves for the gradient.

    penalty = weight / 2 * sum of W^2        its gradient = weight * W

Squares are added up in float64: of 10^8 weights, float32 would lose the smaller ones.

Limit: memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, row_of, share, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load_double, plus, times, total

__all__ = ["add_scaled", "sum_of_squares"]


@kernel
def _squares_task(task, n_tasks, x, sums):
    first, last = share(x.size, task, n_tasks)
    squares = fill(sums, 0.0)
    for i in range(first, last, lanes(sums)):
        values = load_double(x, i, last - i)
        squares = plus(squares, times(values, values))
    sums[task] = total(squares)


@kernel
def _squares(n_tasks, x, sums, n_threads):
    parallel_for(_squares_task, n_tasks, n_threads, (n_tasks, x, sums))


def sum_of_squares(arrays: Sequence[Array]) -> float:
    """The sum of the squares of all elements of all arrays, added up in float64.

    Raises:
        TypeError: if the arrays are not all float32 or all float64.
    """
    arrays = list(arrays)
    check_float("sum_of_squares", *arrays)
    of_arrays = []
    for x in arrays:
        sums = np.empty(task_count(x.size), np.float64)
        _squares(sums.size, row_of(x), sums, get_num_threads())
        of_arrays.append(sums.sum())
    return float(sum(of_arrays))


@kernel
def _add_scaled_task(task, n_tasks, into, value, scale):
    first, last = share(into.size, task, n_tasks)
    into, value = into[first:last], value[first:last]
    for i in range(into.size):
        into[i] += scale * value[i]


@kernel
def _add_scaled(n_tasks, into, value, scale, n_threads):
    parallel_for(_add_scaled_task, n_tasks, n_threads, (n_tasks, into, value, scale))


def add_scaled(into: Array, value: Array, scale: float) -> None:
    """``into += scale * value`` in place, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32 or both float64.
        ValueError: if the shapes differ or ``into`` is read-only.
    """
    dtype = check_float("add_scaled", into, value)
    check_same_shape("add_scaled", into=into, value=value)
    if not into.flags.writeable:
        raise ValueError("add_scaled: expected an array that can be written to, got a read-only one")
    memory = into.transpose(0, 2, 3, 1) if into.ndim == 4 else into
    if into.flags.c_contiguous:
        rows = into.reshape(-1), np.ascontiguousarray(value).reshape(-1)
    elif memory.flags.c_contiguous:
        rows = row_of(into), row_of(value)
    else:
        into += dtype.type(scale) * value
        return
    _add_scaled(task_count(into.size), *rows, dtype.type(scale), get_num_threads())
