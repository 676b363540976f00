"""Maxout (Goodfellow et al. 2013): the maximum of each group of ``pieces`` consecutive channels.

    y[n, j] = max over k < pieces of x[n, j * pieces + k]        dx[n, j * pieces + which[n, j]] = dy[n, j]

Channels are the last axis of memory, so that the whole array is one row of groups, whatever its shape. Limit:
one comparison, about a nanosecond, for each element of x; backward one scattered write for each of dy, after
a block of dx was cleared that stays in the first cache.
"""

from __future__ import annotations

import operator

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty, empty_nchw
from nbconv_kernels.cpu.tasks import row_of, share, task_count

__all__ = ["maxout", "maxout_backward"]

_BLOCK = 1024  # groups whose gradients are cleared, then written


@kernel
def _maxout_task(task, n_tasks, x, pieces, y, which):
    first, last = share(y.size, task, n_tasks)
    x, y, which = x[first * pieces : last * pieces], y[first:last], which[first:last]
    for i in range(y.size):
        best, best_at = x[i * pieces], 0
        for k in range(1, pieces):
            value = x[i * pieces + k]
            better = (value > best) | (value != value)
            best = value if better else best
            best_at = k if better else best_at
        y[i], which[i] = best, best_at


@kernel
def _maxout(n_tasks, x, pieces, y, which, n_threads):
    parallel_for(_maxout_task, n_tasks, n_threads, (n_tasks, x, pieces, y, which))


def maxout(x: Array, pieces: int) -> tuple[Array, Array]:
    """The maximum of every ``pieces`` consecutive channels of (N, C) or (N, C, H, W), and which it is.

    Of equal maxima the first counts; a NaN beats every number, and the last NaN counts, as in ``max_pool2d``.

    Returns:
        y (N, C / pieces) or (N, C / pieces, H, W), and which, int32 of the same shape: 0 .. pieces - 1.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for another shape, or channels that are no multiple of ``pieces``.
    """
    dtype = check_float("maxout", x)
    pieces = _count(pieces)
    if x.ndim not in (2, 4) or x.shape[1] == 0 or x.shape[1] % pieces:
        raise ValueError(
            f"maxout: expected (N, C) or (N, C, H, W), C a multiple of pieces={pieces}, got shape {x.shape}"
        )
    y, which = (_empty(x, x.shape[1] // pieces, kind) for kind in (dtype, np.int32))
    _maxout(task_count(x.size), row_of(x), pieces, row_of(y), row_of(which), get_num_threads())
    return y, which


@kernel
def _maxout_backward_task(task, n_tasks, dy, which, pieces, dx, wrong):
    first, last = share(dy.size, task, n_tasks)
    zero = dy.dtype.type(0)
    bad = 0
    for start in range(first, last, _BLOCK):
        stop = min(last, start + _BLOCK)
        block = dx[start * pieces : stop * pieces]
        for i in range(block.size):
            block[i] = zero
        for i in range(start, stop):
            if 0 <= which[i] < pieces:
                block[(i - start) * pieces + which[i]] = dy[i]
            else:
                bad += 1
    wrong[task] = bad


@kernel
def _maxout_backward(n_tasks, dy, which, pieces, dx, wrong, n_threads):
    parallel_for(_maxout_backward_task, n_tasks, n_threads, (n_tasks, dy, which, pieces, dx, wrong))


def maxout_backward(dy: Array, which: Array, pieces: int) -> Array:
    """Gradient of the input, with ``pieces`` times the channels: dy where the maximum was, 0 elsewhere.

    Raises:
        TypeError: for a dtype other than float32 or float64, or ``which`` other than int32.
        ValueError: for shapes that do not go together, or ``which`` outside of 0 .. pieces - 1.
    """
    check_float("maxout_backward", dy)
    pieces = _count(pieces)
    if not isinstance(which, np.ndarray) or which.dtype != np.int32:
        kind = which.dtype if isinstance(which, np.ndarray) else type(which).__name__
        raise TypeError(f"maxout_backward: expected an int32 array of pieces, got {kind}")
    if dy.ndim not in (2, 4) or which.shape != dy.shape:
        raise ValueError(
            f"maxout_backward: expected dy and which of one shape (N, C) or (N, C, H, W), got {dy.shape} and "
            f"{which.shape}"
        )
    dx = _empty(dy, dy.shape[1] * pieces, dy.dtype)
    n_tasks = task_count(dx.size)
    wrong = np.zeros(n_tasks, np.int64)
    _maxout_backward(n_tasks, row_of(dy), row_of(which), pieces, row_of(dx), wrong, get_num_threads())
    if wrong.any():
        raise ValueError(f"maxout_backward: {wrong.sum()} of the pieces are not in 0 .. {pieces - 1}")
    return dx


def _empty(x: Array, channels: int, dtype: np.typing.DTypeLike) -> Array:
    """An array of the shape of ``x``, but with so many channels."""
    n, _, *size = x.shape
    return empty_nchw(n, channels, *size, dtype) if size else empty((n, channels), dtype)


def _count(pieces: int) -> int:
    if operator.index(pieces) < 1:
        raise ValueError(f"maxout: pieces must be positive, got {pieces}")
    return operator.index(pieces)
