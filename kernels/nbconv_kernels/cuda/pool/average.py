"""Average pooling, plain and adaptive, and its gradients: all four are one kernel.

    y[n, p, q, c] = sum over the window's h, w of x[n, h, w, c] / (height(p) * width(q))

A pixel of the input lies in a contiguous range of windows, so that the gradient has the same form: dx[n, h,
w, c] = sum over those p, q of dy[n, p, q, c] / (height(p) * width(q)). Both gather: each output is written
once, from a sum in a fixed order,

    out[p, q] = row_out[p] * column_out[q] * sum over r of row_in[r] * (sum over s of column_in[s] * in[r, s])

where the divisors are the weights behind the sums (forward) or before them (backward). Ranges and weights are
tables along each axis, made once for a geometry. Rows are summed on their own before they join the total,
which keeps the rounding errors of large windows small.

Memory is (N, H, W, C); a thread takes four channels through the window (``pixels``). What windows share comes
out of the cache. Limit: memory bandwidth.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbconv_kernels.cuda.build import kernel
from nbconv_kernels.cuda.memory import Array, check_float, empty_nchw, tables, whole
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4, write4
from nbconv_kernels.cuda.target import cuda, f32s, float32, i32s, u32, uint32
from nbconv_kernels.geometry import (
    PaddingLike,
    PairLike,
    Pool2dGeometry,
    adaptive_output_size,
    adaptive_window,
    pool2d_geometry,
)

__all__ = ["adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "avg_pool2d", "avg_pool2d_backward"]


@kernel(block=BLOCK, min_blocks=8)
def _gather(
    x: f32s,
    y: f32s,
    ranges: i32s,
    weights: f32s,
    channels: u32,
    height: u32,
    width: u32,
    p_size: u32,
    q_size: u32,
):
    """``ranges``: first and last row of each output row, then of columns. ``weights``: in, then out."""
    row = uint32(cuda.blockIdx.x)
    image = uint32(row // p_size)
    p = uint32(row - uint32(image * p_size))
    r_first, r_last = uint32(ranges[p]), uint32(ranges[uint32(p_size + p)])
    out = uint32(height + width)
    row_scale = weights[uint32(out + p)]
    groups = quads(channels)
    item = first_item()
    while item < uint32(q_size * groups):
        q = uint32(item // groups)
        channel = uint32(uint32(item - uint32(q * groups)) << uint32(2))
        columns = uint32(uint32(uint32(2) * p_size) + q)
        s_first, s_last = uint32(ranges[columns]), uint32(ranges[uint32(columns + q_size)])
        total0, total1, total2, total3 = float32(0), float32(0), float32(0), float32(0)
        r = r_first
        while r < r_last:
            line0, line1, line2, line3 = float32(0), float32(0), float32(0), float32(0)
            at = uint32(uint32(uint32(uint32(image * height) + r) * width) + s_first)
            at = uint32(uint32(at * channels) + channel)
            s = s_first
            while s < s_last:
                weight = weights[uint32(height + s)]
                a, b, c, d = read4(x, at, channel, channels)
                line0 += weight * a
                line1 += weight * b
                line2 += weight * c
                line3 += weight * d
                at = uint32(at + channels)
                s = uint32(s + uint32(1))
            weight = weights[r]
            total0 += weight * line0
            total1 += weight * line1
            total2 += weight * line2
            total3 += weight * line3
            r = uint32(r + uint32(1))
        scale = row_scale * weights[uint32(uint32(out + p_size) + q)]
        at = uint32(uint32(uint32(uint32(row * q_size) + q) * channels) + channel)
        write4(y, at, channel, channels, scale * total0, scale * total1, scale * total2, scale * total3)
        item = next_item(item)


def _pool(x: Array, output: tuple[int, int], of_geometry: tuple[Array, ...]) -> Array:
    """Sum ranges of ``x`` (N, C, H, W) to (N, C, *output)."""
    n, channels, height, width = x.shape
    y = empty_nchw(x, n, channels, *output)
    if y.size:
        blocks = grid(n * output[0], output[1], channels)
        _gather[blocks](whole(x), y, *of_geometry, channels, height, width, *output)
    return y


class _Axis(NamedTuple):
    """Along one axis: output ``i`` sums inputs ``first[i]`` .. ``last[i]`` and divides by ``divisor[i]``."""

    size: int  # inputs
    first: Sequence[int]
    last: Sequence[int]
    divisor: Sequence[float]


def _tables(rows: _Axis, columns: _Axis, backward: bool) -> tuple[Array, Array]:
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
    return np.concatenate(ranges).astype(np.int32), np.concatenate(weights_in + weights_out).astype(
        np.float32
    )


def _plain_tables(
    g: Pool2dGeometry, count_include_pad: bool, divisor_override: int | None, backward: bool
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
    return _tables(rows, columns, backward)


def _adaptive_tables(size: tuple[int, int], output: tuple[int, int], backward: bool) -> tuple[Array, Array]:
    axes = []
    for length, count in zip(size, output, strict=True):
        first, last = zip(*(adaptive_window(i, length, count) for i in range(count)), strict=True)
        axes.append(_Axis(length, first, last, [b - a for a, b in zip(first, last, strict=True)]))
    return _tables(axes[0], axes[1], backward)


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
        TypeError: for a dtype other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("avg_pool2d", x)
    g = pool2d_geometry(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    divisor = _divisor("avg_pool2d", divisor_override)
    return _pool(x, (g.p, g.q), tables(x, _plain_tables, g, bool(count_include_pad), divisor, False))


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
        TypeError: for a dtype other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("avg_pool2d_backward", dy)
    g = pool2d_geometry(input_shape, kernel_size, stride, padding, 1, ceil_mode)
    if dy.shape != g.output_shape:
        raise ValueError(f"avg_pool2d_backward: expected dy of shape {g.output_shape}, got {dy.shape}")
    divisor = _divisor("avg_pool2d_backward", divisor_override)
    return _pool(dy, (g.h, g.w), tables(dy, _plain_tables, g, bool(count_include_pad), divisor, True))


def adaptive_avg_pool2d(x: Array, output_size: int | Sequence[int | None] | None) -> Array:
    """The means of (N, C, H, W) over as many windows as give ``output_size``; None keeps the input's size.

    Returns:
        (N, C, *output_size). Window i of an axis covers floor(i * size / output) .. ceil((i + 1) * size /
        output).

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for a wrong rank or a size that is not positive.
    """
    check_float("adaptive_avg_pool2d", x)
    output = adaptive_output_size(x.shape, output_size)
    return _pool(x, output, tables(x, _adaptive_tables, x.shape[2:], output, False))


def adaptive_avg_pool2d_backward(dy: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``, from that of the output.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for shapes that do not go together.
    """
    check_float("adaptive_avg_pool2d_backward", dy)
    if dy.ndim != 4 or dy.shape[:2] != tuple(input_shape[:2]):
        raise ValueError(
            f"adaptive_avg_pool2d_backward: expected dy of shape (N, C, P, Q) for the input shape "
            f"{tuple(input_shape)}, got {dy.shape}"
        )
    output = adaptive_output_size(input_shape, dy.shape[2:])
    size = (int(input_shape[2]), int(input_shape[3]))
    return _pool(dy, size, tables(dy, _adaptive_tables, size, output, True))
