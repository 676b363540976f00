"""Average pooling, plain and adaptive, and its gradients: all four are one kernel.

    y[n, p, q, c] = sum over the window's h, w of x[n, h, w, c] / (height(p) * width(q))

A pixel of the input lies in a contiguous range of windows, so that the gradient has the same form: dx[n, h,
w, c] = sum over those p, q of dy[n, p, q, c] / (height(p) * width(q)). Both gather: each output is written
once, from a sum in a fixed order,

    out[p, q] = row_out[p] * column_out[q] * sum over r of row_in[r] * (sum over s of column_in[s] * in[r, s])

where the divisors are the weights behind the sums (forward) or before them (backward). Ranges and weights are
tables along each axis, made once for a geometry. Rows are summed on their own before they join the total,
which keeps the rounding errors of large windows small.

Memory is (N, H, W, C); a vector of channels goes through the window. Limit: memory bandwidth.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float, empty_nchw
from nbconv_kernels.cpu.tasks import row_of, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load, plus, store, times
from nbconv_kernels.geometry import (
    PaddingLike,
    PairLike,
    Pool2dGeometry,
    adaptive_output_size,
    adaptive_window,
    pool2d_geometry,
)

__all__ = ["adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "avg_pool2d", "avg_pool2d_backward"]


@kernel
def _gather_task(task, n_tasks, x, y, shape, ranges, weights):
    images, c, h, w, p_size, q_size = shape
    step = lanes(x)
    zero = fill(x, x.dtype.type(0))
    for row in range(images * p_size * task // n_tasks, images * p_size * (task + 1) // n_tasks):
        image = row // p_size
        p = row - image * p_size
        for q in range(q_size):
            scale = fill(x, weights[h + w + p] * weights[h + w + p_size + q])
            s_first, s_last = ranges[2 * p_size + q], ranges[2 * p_size + q_size + q]
            for channel in range(0, c, step):
                rest = c - channel
                total = zero
                for r in range(ranges[p], ranges[p_size + p]):
                    line = zero
                    for s in range(s_first, s_last):
                        value = load(x, ((image * h + r) * w + s) * c + channel, rest)
                        line = plus(line, times(fill(x, weights[h + s]), value))
                    total = plus(total, times(fill(x, weights[r]), line))
                store(y, (row * q_size + q) * c + channel, times(scale, total), rest)


@kernel
def _gather(n_tasks, x, y, shape, ranges, weights, n_threads):
    parallel_for(_gather_task, n_tasks, n_threads, (n_tasks, x, y, shape, ranges, weights))


def _pool(x: Array, output: tuple[int, int], tables: tuple[Array, Array]) -> Array:
    """The weighted sums of (N, C, H, W) over the ranges of ``tables``, (N, C, *output)."""
    y = empty_nchw(*x.shape[:2], *output, x.dtype)
    _gather(
        task_count(max(x.size, y.size)), row_of(x), row_of(y), (*x.shape, *output), *tables, get_num_threads()
    )
    return y


class _Axis(NamedTuple):
    """Along one axis: output ``i`` sums inputs ``first[i]`` .. ``last[i]`` and divides by ``divisor[i]``."""

    size: int  # inputs
    first: Sequence[int]
    last: Sequence[int]
    divisor: Sequence[float]


def _tables(rows: _Axis, columns: _Axis, dtype: Any, backward: bool) -> tuple[Array, Array]:
    """``ranges`` (row firsts and lasts, column firsts and lasts) and ``weights`` (in, out; rows first)."""
    ranges, weights_in, weights_out = [], [], []
    for size, *lists in (rows, columns):
        first, last, weights = np.array(lists[0]), np.array(lists[1]), 1 / np.array(lists[2], np.float64)
        if backward:
            # Windows start and end in order: those around a position have started there, but not ended.
            positions = np.arange(size)
            first, last = (
                np.searchsorted(last, positions, "right"),
                np.searchsorted(first, positions, "right"),
            )
        ranges += [first, last]
        weights_in.append(weights if backward else np.ones(size))
        weights_out.append(np.ones(size) if backward else weights)
    return np.concatenate(ranges).astype(np.int64), np.concatenate(weights_in + weights_out).astype(dtype)


@lru_cache(maxsize=256)
def _plain_tables(
    g: Pool2dGeometry, count_include_pad: bool, divisor_override: int | None, dtype: Any, backward: bool
) -> tuple[Array, Array]:
    axes = []
    for size, taps, count, stride, before, after in (
        (g.h, g.r, g.p, g.stride_h, g.pad_top, g.pad_bottom),
        (g.w, g.s, g.q, g.stride_w, g.pad_left, g.pad_right),
    ):
        starts = [i * stride - before for i in range(count)]
        first = [max(start, 0) for start in starts]
        last = [min(start + taps, size) for start in starts]
        if count_include_pad:
            divisor = [min(start + taps, size + after) - start for start in starts]
        else:
            divisor = [stop - start for start, stop in zip(first, last, strict=True)]
        axes.append(_Axis(size, first, last, divisor))
    rows, columns = axes
    if divisor_override is not None:
        rows = rows._replace(divisor=[divisor_override] * g.p)
        columns = columns._replace(divisor=[1] * g.q)
    return _tables(rows, columns, dtype, backward)


@lru_cache(maxsize=256)
def _adaptive_tables(
    size: tuple[int, int], output: tuple[int, int], dtype: Any, backward: bool
) -> tuple[Array, Array]:
    axes = []
    for length, count in zip(size, output, strict=True):
        first, last = zip(*(adaptive_window(i, length, count) for i in range(count)), strict=True)
        axes.append(_Axis(length, first, last, [b - a for a, b in zip(first, last, strict=True)]))
    return _tables(axes[0], axes[1], dtype, backward)


def _divisor(op: str, divisor_override: int | None) -> int | None:
    if divisor_override is None:
        return None
    divisor = operator.index(divisor_override)
    if divisor == 0:
        raise ValueError(f"{op}: divisor_override must not be zero")
    return divisor


def avg_pool2d(
    x: Array,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The mean of each window of (N, C, H, W).

    Padding counts as zeros, or not at all without ``count_include_pad``; ``divisor_override`` replaces the
    count.

    Returns:
        (N, C, P, Q).

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for shapes and arguments that do not go together.
    """
    dtype = check_float("avg_pool2d", x)
    g = pool2d_geometry(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    divisor = _divisor("avg_pool2d", divisor_override)
    return _pool(x, (g.p, g.q), _plain_tables(g, bool(count_include_pad), divisor, dtype, False))


def avg_pool2d_backward(
    dy: Array,
    input_shape: tuple[int, int, int, int],
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``, from that of the output.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for shapes and arguments that do not go together.
    """
    dtype = check_float("avg_pool2d_backward", dy)
    g = pool2d_geometry(input_shape, kernel_size, stride, padding, 1, ceil_mode)
    if dy.shape != g.output_shape:
        raise ValueError(f"avg_pool2d_backward: expected dy of shape {g.output_shape}, got {dy.shape}")
    divisor = _divisor("avg_pool2d_backward", divisor_override)
    return _pool(dy, (g.h, g.w), _plain_tables(g, bool(count_include_pad), divisor, dtype, True))


def adaptive_avg_pool2d(x: Array, output_size: int | Sequence[int | None] | None) -> Array:
    """The means of (N, C, H, W) over as many windows as give ``output_size``; None keeps the input's size.

    Returns:
        (N, C, *output_size). Window i of an axis covers floor(i * size / output) .. ceil((i + 1) * size /
        output).

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for a wrong rank or a size that is not positive.
    """
    dtype = check_float("adaptive_avg_pool2d", x)
    output = adaptive_output_size(x.shape, output_size)
    return _pool(x, output, _adaptive_tables(x.shape[2:], output, dtype, False))


def adaptive_avg_pool2d_backward(dy: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``, from that of the output.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for shapes that do not go together.
    """
    dtype = check_float("adaptive_avg_pool2d_backward", dy)
    if dy.ndim != 4 or dy.shape[:2] != tuple(input_shape[:2]):
        raise ValueError(
            f"adaptive_avg_pool2d_backward: expected dy of shape (N, C, P, Q) for the input shape "
            f"{tuple(input_shape)}, got {dy.shape}"
        )
    output = adaptive_output_size(input_shape, dy.shape[2:])
    size = (int(input_shape[2]), int(input_shape[3]))
    return _pool(dy, size, _adaptive_tables(size, output, dtype, True))
