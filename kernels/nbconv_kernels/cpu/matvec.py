"""A matrix times a few vectors: dense layers at a batch of one.

``y[n, row] = sum over i of weight[row, i] * x[n, i] + bias[row]``. There is nothing to reuse, so nothing is
packed: four rows of the weights stream through at a time, each with two vectors of partial sums, which are
added across their lanes at the row's end. Limit: reading the weights once from memory.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.movement import address, prefetch
from nbconv_kernels.cpu.vector import fill, lanes, load, plus, times, total

VECTORS_AT_ONCE = 2  # of x; from there on the matrix product is faster
_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves
_AHEAD = 512  # elements


@kernel
def four_sums(x, at, weight, first, depth):
    """The sums of four rows of the weights that follow each other from element ``first`` on."""
    width = lanes(weight)
    zero = fill(load(x, 0, 0), x.dtype.type(0))
    a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    a, b, c, d = first, first + depth, first + 2 * depth, first + 3 * depth
    whole = depth // (2 * width) * (2 * width)
    for i in range(0, whole, 2 * width):
        for row in (a, b, c, d):
            prefetch(address(weight, row + i + _AHEAD))
            prefetch(address(weight, row + i + _AHEAD + width))
        x0, x1 = load(x, at + i, width), load(x, at + i + width, width)
        a0 = plus(a0, times(load(weight, a + i, width), x0))
        a1 = plus(a1, times(load(weight, a + i + width, width), x1))
        b0 = plus(b0, times(load(weight, b + i, width), x0))
        b1 = plus(b1, times(load(weight, b + i + width, width), x1))
        c0 = plus(c0, times(load(weight, c + i, width), x0))
        c1 = plus(c1, times(load(weight, c + i + width, width), x1))
        d0 = plus(d0, times(load(weight, d + i, width), x0))
        d1 = plus(d1, times(load(weight, d + i + width, width), x1))
    for i in range(whole, depth, width):
        left = min(width, depth - i)
        x0 = load(x, at + i, left)
        a0 = plus(a0, times(load(weight, a + i, left), x0))
        b0 = plus(b0, times(load(weight, b + i, left), x0))
        c0 = plus(c0, times(load(weight, c + i, left), x0))
        d0 = plus(d0, times(load(weight, d + i, left), x0))
    return total(plus(a0, a1)), total(plus(b0, b1)), total(plus(c0, c1)), total(plus(d0, d1))


@kernel
def _matvec_task(task, n_tasks, x, weight, bias, y):
    count, depth = x.shape
    rows = y.shape[1]
    flat_x, flat = x.reshape(-1), weight.reshape(-1)
    groups = rows // 4
    for group in range(groups * task // n_tasks, groups * (task + 1) // n_tasks):
        row = 4 * group
        for n in range(count):
            a, b, c, d = four_sums(flat_x, n * depth, flat, row * depth, depth)
            y[n, row], y[n, row + 1] = a + bias[row], b + bias[row + 1]
            y[n, row + 2], y[n, row + 3] = c + bias[row + 2], d + bias[row + 3]
    if task == n_tasks - 1:
        for row in range(4 * groups, rows):
            for n in range(count):
                value = bias[row]
                for i in range(depth):
                    value += weight[row, i] * x[n, i]
                y[n, row] = value


@kernel
def _matvec(x, weight, bias, y, n_tasks):
    parallel_for(_matvec_task, n_tasks, n_tasks, (n_tasks, x, weight, bias, y))


def matvec(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x @ weight.T + bias`` for a few rows of x, in C order: (N, in), (out, in), (out,) -> (N, out)."""
    rows = len(weight)
    y = np.empty((len(x), rows), x.dtype)
    bias = np.zeros(rows, x.dtype) if bias is None else np.ascontiguousarray(bias)
    _matvec(x, weight, bias, y, get_num_threads() if x.size * rows > _SMALL else 1)
    return y
