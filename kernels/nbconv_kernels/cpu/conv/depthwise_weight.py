"""The weight gradient of a depthwise 3 x 3 convolution: nine sums a channel over all outputs.

    dw[c, r, s] = sum over n, p, q of dy[n, p, q, c] * x[n, y(p, r), x(q, s), c]

A vector of channels goes along one line of outputs with its nine sums in registers: ten loads for nine
multiply-adds. In the place of rows above and below the image the nearest is read, and its sums dropped. What
a line has summed is added to its task's total, so that sums stay short.

Limit: the bandwidth of memory, as x and dy are read once; the next line's pixels, a page or more away for
many channels, are fetched while this one's are summed.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.movement import address, prefetch
from nbconv_kernels.cpu.vector import fill, lanes, load, plus, store, times
from nbconv_kernels.geometry import Conv2dGeometry


@kernel
def _add_column(gradient, x, rows, column, rest, sums):
    """The sums of three taps above each other, with one more pixel each."""
    return (
        plus(sums[0], times(gradient, load(x, rows[0] + column, rest))),
        plus(sums[1], times(gradient, load(x, rows[1] + column, rest))),
        plus(sums[2], times(gradient, load(x, rows[2] + column, rest))),
    )


@kernel
def _add_line(dy, to, x, rows, there, rest, line, total, at):
    """Add a line of outputs' nine sums of a vector of channels to ``total``, which has ``c`` for each tap."""
    q_size, w, c, stride, pad_left = line
    zero = fill(load(total, at, rest), 0.0)
    first = second = third = (zero, zero, zero)
    for q in range(q_size):
        gradient = load(dy, to + q * c, rest)
        left = q * stride - pad_left
        prefetch(address(dy, to + (q_size + q) * c))
        for i in range(1, stride + 1):
            for j in range(1, stride + 1):
                prefetch(address(x, rows[2] + (i * w + left + j) * c))
        if 0 <= left < w:
            first = _add_column(gradient, x, rows, left * c, rest, first)
        if 0 <= left + 1 < w:
            second = _add_column(gradient, x, rows, (left + 1) * c, rest, second)
        if 0 <= left + 2 < w:
            third = _add_column(gradient, x, rows, (left + 2) * c, rest, third)
    for r in range(3):
        if there[r]:
            place = at + 3 * r * c
            store(total, place, plus(load(total, place, rest), first[r]), rest)
            store(total, place + c, plus(load(total, place + c, rest), second[r]), rest)
            store(total, place + 2 * c, plus(load(total, place + 2 * c, rest), third[r]), rest)


@kernel
def _task(task, n_tasks, dy, x, sizes, grid, totals):
    h, w, c, stride, pad_top, pad_left = sizes
    n, p_size, q_size = grid
    line = (q_size, w, c, stride, pad_left)
    for i in range(9 * c):
        totals[9 * c * task + i] = 0
    for unit in range(n * p_size * task // n_tasks, n * p_size * (task + 1) // n_tasks):
        image = unit // p_size
        top = (unit - image * p_size) * stride - pad_top
        there = (0 <= top < h, 0 <= top + 1 < h, 0 <= top + 2 < h)
        if not (there[0] or there[1] or there[2]):
            continue
        low, high = image * h, image * h + h - 1
        first = min(max(low + top, low), high) * w * c
        second = min(max(low + top + 1, low), high) * w * c
        third = min(max(low + top + 2, low), high) * w * c
        for i in range(0, c, lanes(x)):
            rows = (first + i, second + i, third + i)
            to, at = unit * q_size * c + i, 9 * c * task + i
            _add_line(dy, to, x, rows, there, c - i, line, totals, at)


@kernel
def _gradient(dy, x, sizes, grid, totals, n_tasks, n_threads):
    parallel_for(_task, n_tasks, n_threads, (n_tasks, dy, x, sizes, grid, totals))


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, C), (N, H, W, C) -> (C, 1, 3, 3)."""
    totals = np.empty((get_num_threads(), 3, 3, g.c), x.dtype)
    sizes = (g.h, g.w, g.c, g.stride_h, g.pad_top, g.pad_left)
    _gradient(
        *(dy.reshape(-1), x.reshape(-1), sizes, dy.shape[:3], totals.reshape(-1)),
        *(len(totals), get_num_threads()),
    )
    return np.ascontiguousarray(totals.sum(axis=0).transpose(2, 0, 1)).reshape(g.weight_shape)
