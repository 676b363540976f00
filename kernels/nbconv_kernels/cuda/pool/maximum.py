"""Maximum pooling, and its gradient at the stored places.

    y[n, p, q, c] = max over r, s of x[n, p * stride - pad + r * dilation, q * stride - pad + s * dilation, c]

Memory is (N, H, W, C). Forward: a thread takes four channels (``pixels``) through a window, with the best
values and their places in registers. The first tap inside the input and the number of taps come from tables
along each axis, made once for a geometry. Windows of 2 x 2 and 3 x 3 have kernels of their own, whose loops
are unrolled: all taps are asked for before the first is compared, so that memory is never idle. Where such a
window is cut, its last taps stand for those outside, which changes nothing: neither the maximum, nor which of
equal ones is the first, nor which NaN is the last.

Backward: dx[indices] += dy. Each pixel gathers: of the windows that may have their maximum there (``places``)
it adds the gradients of those that do, in order. So there are no atomic additions, and the bits are the same
each time.

Limit: memory bandwidth; where windows overlap, they find what they share in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv_kernels.cuda.build import Kernel, device_function, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4
from nbconv_kernels.cuda.memory import Array, check_float, empty_nchw, tables, whole
from nbconv_kernels.cuda.pixels import BLOCK, first_item, grid, next_item, quads, read4, write4
from nbconv_kernels.cuda.pool.places import check_integers, places, reach, remember
from nbconv_kernels.cuda.target import cuda, f32s, float32, i32s, int32, u32, uint32
from nbconv_kernels.geometry import PaddingLike, PairLike, Pool2dGeometry, nchw, pool2d_geometry

__all__ = ["max_pool2d", "max_pool2d_backward"]


@device_function
def _better(value, best) -> Any:
    """NaN beats every number, and the last NaN those before it."""
    return value > best or value != value


@device_function
def _compared(best, places, taps, at) -> Any:
    """The better of the best so far and of one more tap, for four channels, and where they lie."""
    place = int32(at)
    a, b, c, d = (
        _better(taps[0], best[0]),
        _better(taps[1], best[1]),
        _better(taps[2], best[2]),
        _better(taps[3], best[3]),
    )
    values = (
        taps[0] if a else best[0],
        taps[1] if b else best[1],
        taps[2] if c else best[2],
        taps[3] if d else best[3],
    )
    found = (
        place if a else places[0],
        place if b else places[1],
        place if c else places[2],
        place if d else places[3],
    )
    return values, found


def _make(size: int) -> Kernel:
    """The kernel for windows of ``size`` x ``size`` over fours of channels, or, for 0, of any."""

    @kernel(block=BLOCK, max_registers=80, constants=(size,) if size else ())
    def _max_pool(
        x: f32s,
        y: f32s,
        indices: i32s,
        windows: i32s,
        channels: u32,
        height: u32,
        width: u32,
        p_size: u32,
        q_size: u32,
        row_step: u32,
        column_step: u32,
    ):
        """``windows``: the first row and the number of taps of each output row, then of columns."""
        output_row = uint32(cuda.blockIdx.x)
        image = uint32(output_row // p_size)
        p = uint32(output_row - uint32(image * p_size))
        top, rows = uint32(windows[p]), uint32(windows[uint32(p_size + p)])
        groups = quads(channels)
        item = first_item()
        while item < uint32(q_size * groups):
            q = uint32(item // groups)
            channel = uint32(uint32(item - uint32(q * groups)) << uint32(2))
            table = uint32(uint32(uint32(2) * p_size) + q)
            left, columns = uint32(windows[table]), uint32(windows[uint32(table + q_size)])
            base = uint32(uint32(uint32(image * uint32(height * width)) * channels) + channel)
            start = uint32(uint32(top * width) + left)
            places = (int32(start), int32(start), int32(start), int32(start))
            if size:
                best = load4(x, uint32(base + uint32(start * channels)))
                for r in range(size):
                    row = uint32(start + uint32(min(uint32(r), uint32(rows - uint32(1))) * width))
                    for s in range(size):
                        at = uint32(row + min(uint32(s), uint32(columns - uint32(1))))
                        taps = load4(x, uint32(base + uint32(at * channels)))
                        best, places = _compared(best, places, taps, at)
            else:
                best = read4(x, uint32(base + uint32(start * channels)), channel, channels)
                end = uint32(start + uint32(uint32(rows * row_step) * width))
                while start < end:
                    at, line_end = start, uint32(start + uint32(columns * column_step))
                    while at < line_end:
                        taps = read4(x, uint32(base + uint32(at * channels)), channel, channels)
                        best, places = _compared(best, places, taps, at)
                        at = uint32(at + column_step)
                    start = uint32(start + uint32(row_step * width))
            out = uint32(uint32(uint32(uint32(output_row * q_size) + q) * channels) + channel)
            if size:
                store4(y, out, best[0], best[1], best[2], best[3])
                store4(indices, out, places[0], places[1], places[2], places[3])
            else:
                write4(y, out, channel, channels, best[0], best[1], best[2], best[3])
                write4(indices, out, channel, channels, places[0], places[1], places[2], places[3])
            item = next_item(item)

    return _max_pool


_MAX_POOL = {size: _make(size) for size in (0, 2, 3)}


def _windows(g: Pool2dGeometry) -> tuple[Array]:
    table: list[int] = []
    for size, taps, count, stride, before, gap in (
        (g.h, g.r, g.p, g.stride_h, g.pad_top, g.dilation_h),
        (g.w, g.s, g.q, g.stride_w, g.pad_left, g.dilation_w),
    ):
        inside = [
            [at for at in range(start, start + taps * gap, gap) if 0 <= at < size]
            for start in range(-before, count * stride - before, stride)
        ]
        table += [window[0] for window in inside] + [len(window) for window in inside]
    return (np.array(table, np.int32),)


def max_pool2d(
    x: Array,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """The maximum of each window of (N, C, H, W), and where it lies.

    Returns:
        y and indices, both (N, C, P, Q). Indices are int32, ``h * W + w`` of the maximum in its image: of
        equal ones the first in row order, of NaNs (each beats every number) the last, as in PyTorch.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("max_pool2d", x)
    g = pool2d_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = empty_nchw(x, *g.output_shape)
    indices = empty_nchw(x, *g.output_shape, np.int32)
    if y.size:
        sizes = (g.c, g.h, g.w, g.p, g.q, g.dilation_h, g.dilation_w)
        plain = g.r == g.s and g.dilation_h == g.dilation_w == 1 and g.c % 4 == 0
        launch = _MAX_POOL.get(g.r if plain else 0, _MAX_POOL[0])
        launch[grid(g.n * g.p, g.q, g.c)](whole(x), y, indices, *tables(x, _windows, g), *sizes)
    remember(indices, g)
    return y, indices


@kernel(block=BLOCK)
def _gather(
    dy: f32s,
    indices: i32s,
    dx: f32s,
    reach: i32s,
    channels: u32,
    height: u32,
    width: u32,
    p_size: u32,
    q_size: u32,
    add: u32,
):
    """For each pixel the sum, or the last, of the dy of those windows that name it."""
    pixel_row = uint32(cuda.blockIdx.x)
    image = uint32(pixel_row // height)
    row = uint32(pixel_row - uint32(image * height))
    p_first, p_last = uint32(reach[row]), uint32(reach[uint32(height + row)])
    groups = quads(channels)
    item = first_item()
    while item < uint32(width * groups):
        column = uint32(item // groups)
        channel = uint32(uint32(item - uint32(column * groups)) << uint32(2))
        table = uint32(uint32(uint32(2) * height) + column)
        q_first, q_last = uint32(reach[table]), uint32(reach[uint32(table + width)])
        here = int32(uint32(uint32(row * width) + column))
        a, b, c, d = float32(0), float32(0), float32(0), float32(0)
        p = p_first
        while p < p_last:
            at = uint32(uint32(uint32(uint32(image * p_size) + p) * q_size) + q_first)
            at = uint32(uint32(at * channels) + channel)
            q = q_first
            while q < q_last:
                a_at, b_at, c_at, d_at = read4(indices, at, channel, channels)
                e, f, g, h = read4(dy, at, channel, channels)
                if a_at == here:
                    a = a + e if add != uint32(0) else e
                if b_at == here:
                    b = b + f if add != uint32(0) else f
                if c_at == here:
                    c = c + g if add != uint32(0) else g
                if d_at == here:
                    d = d + h if add != uint32(0) else h
                at = uint32(at + channels)
                q = uint32(q + uint32(1))
            p = uint32(p + uint32(1))
        out = uint32(uint32(uint32(uint32(pixel_row * width) + column) * channels) + channel)
        write4(dx, out, channel, channels, a, b, c, d)
        item = next_item(item)


def gathered(op: str, dy: Array, indices: Array, h: int, w: int, add: bool) -> Array:
    """(N, C, h, w): at each pixel the sum of ``dy`` over the windows whose index names it, or the last one.

    Raises:
        ValueError: if an index is not one of h x w pixels.
    """
    n, channels, p, q = dy.shape
    windows = reach(op, indices, h, w)
    dx = empty_nchw(dy, n, channels, h, w)
    if dx.size:
        arguments = (whole(dy), places(indices, h, w), dx, windows)
        _gather[grid(n * h, w, channels)](*arguments, channels, h, w, p, q, int(add))
    return dx


def max_pool2d_backward(dy: Array, indices: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``: each output's goes to the place in ``indices``.

    Raises:
        TypeError: for a dtype other than float32, or indices that are not integers.
        ValueError: for shapes that do not go together, or an index outside the image.
    """
    check_float("max_pool2d_backward", dy)
    check_integers("max_pool2d_backward", indices)
    n, c, h, w = nchw(input_shape)
    if dy.ndim != 4 or indices.shape != dy.shape or dy.shape[:2] != (n, c):
        raise ValueError(
            f"max_pool2d_backward: expected dy and indices of one shape ({n}, {c}, P, Q) for input_shape "
            f"{tuple(input_shape)}, got shapes {dy.shape} and {indices.shape}"
        )
    return gathered("max_pool2d_backward", dy, indices, h, w, add=True)
