"""The weight gradient: one matrix product per tap whose sum runs over pixels.

    dW[k, tap, c] = sum over pixels p of dy[p, k] * x[pixel that tap reaches from p, c]

Rows are output channels k (their ``dy`` packed ``ROWS`` abreast), columns are input channels c, read in place through
a table of pixel addresses. Pixels come in blocks of ``_BLOCK`` so that the block of x that a panel of columns reads
stays in the L1 cache while every group of rows uses it.

Work is dealt by (tap, panel, rows) where there is enough of that, and by pixels besides where there is not; partial
sums are then added in the order of the pixels, so the bits depend on the number of threads only.

Limit: fused multiply-adds; a tile's sums are read and written once per ``_BLOCK`` steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nbconv_kernels.cpu.conv.packing import panel_width
from nbconv_kernels.cpu.jit import kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array, aligned_empty
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    VECTORS,
    address,
    keep_alive,
    multiply_reduce_1,
    multiply_reduce_2,
)

_BLOCK = 192  # pixels: 192 rows of two vectors are 24 KB, half of an L1 cache
_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves


class Reduction(NamedTuple):
    """The geometry of one reduction; all in elements and pixels."""

    images: int
    out_h: int
    out_w: int
    out_pixel: int  # elements from one pixel of dy to the next
    out_start: int  # first channel of dy (of a group)
    rows: int  # channels of dy
    source_h: int
    source_w: int
    source_pixel: int
    source_start: int
    step_y: int
    step_x: int
    columns: int  # contiguous source elements at each tap


@kernel
def _reduce_task(task, reduction, taps, dy, x, sums, width, splits):  # type: ignore[no-untyped-def]
    pixel_splits, unit_splits = splits
    images, out_h, out_w, out_pixel, out_start, rows = reduction[:6]
    source_h, source_w, source_pixel, source_start, step_y, step_x, columns = reduction[6:]
    n_taps = taps.shape[0]
    groups = (rows + ROWS - 1) // ROWS
    panels = (columns + width - 1) // width
    stride = panels * width
    pixel_task = task // unit_splits
    unit_task = task - pixel_task * unit_splits
    units = n_taps * panels * groups
    first_unit, last_unit = units * unit_task // unit_splits, units * (unit_task + 1) // unit_splits
    if first_unit == last_unit:
        return
    first_tap, last_tap = first_unit // (panels * groups), (last_unit - 1) // (panels * groups) + 1
    pixels = images * out_h * out_w
    last_pixel = pixels * (pixel_task + 1) // pixel_splits
    own = pixel_task * n_taps * groups * ROWS * stride
    own_units = own + first_unit * ROWS * width
    sums[own_units : own_units + (last_unit - first_unit) * ROWS * width] = 0

    zeros = np.zeros(stride, x.dtype)
    zeros_at = address(zeros, 0)
    # A panel's vectors may reach past a pixel's channels: harmless, as those sums are dropped, except past the end of
    # the array. The last elements are read from a copy with room behind it.
    source = x.reshape(x.size)
    tail_start = max(0, x.size - stride)
    tail = np.zeros(x.size - tail_start + stride, x.dtype)
    tail[: x.size - tail_start] = source[tail_start:]
    tail_at = address(tail, 0)
    base = address(x, 0)
    item = x.itemsize
    gradient = dy.reshape(dy.size)

    steps = np.empty((last_tap - first_tap) * _BLOCK, np.int64)
    abreast = np.empty(groups * _BLOCK * ROWS, x.dtype)
    for first in range(pixels * pixel_task // pixel_splits, last_pixel, _BLOCK):
        count = min(_BLOCK, last_pixel - first)
        image = first // (out_h * out_w)
        y = (first - image * out_h * out_w) // out_w
        column = first - (image * out_h + y) * out_w
        for step in range(count):
            for tap in range(first_tap, last_tap):
                from_y = y * step_y + taps[tap, 0]
                from_x = column * step_x + taps[tap, 1]
                where = zeros_at
                if 0 <= from_y < source_h and 0 <= from_x < source_w:
                    at = ((image * source_h + from_y) * source_w + from_x) * source_pixel + source_start
                    where = base + at * item if at + stride <= x.size else tail_at + (at - tail_start) * item
                steps[(tap - first_tap) * _BLOCK + step] = where
            column += 1
            if column == out_w:
                column = 0
                y += 1
                if y == out_h:
                    y = 0
                    image += 1
        for group in range(groups):
            filled = min(ROWS, rows - group * ROWS)
            for step in range(count):
                to = (group * _BLOCK + step) * ROWS
                at = (first + step) * out_pixel + out_start + group * ROWS
                for row in range(filled):
                    abreast[to + row] = gradient[at + row]
                for row in range(filled, ROWS):
                    abreast[to + row] = 0
        for unit in range(first_unit, last_unit):
            tap = unit // (panels * groups)
            panel = (unit - tap * panels * groups) // groups
            group = unit - (tap * panels + panel) * groups
            at = (tap - first_tap) * _BLOCK
            to = own + unit * ROWS * width
            if columns - panel * width > width // VECTORS:
                multiply_reduce_2(
                    steps, at, count, panel * width, abreast, group * _BLOCK * ROWS, sums, to, width
                )
            else:
                multiply_reduce_1(
                    steps, at, count, panel * width, abreast, group * _BLOCK * ROWS, sums, to, width
                )
    keep_alive(zeros)
    keep_alive(tail)


@kernel
def _gather_task(task, n_tasks, rows, columns, n_taps, sums, width, pixel_splits, across, gradient):  # type: ignore[no-untyped-def]
    """Add the partial sums, and put them in the order (out, in, kh, kw).

    With ``across`` = S > 1 a tap is a kernel row and its columns are (kernel column, channel).
    """
    groups = (rows + ROWS - 1) // ROWS
    panels = (columns + width - 1) // width
    size = n_taps * panels * groups * ROWS * width
    channels = columns // across
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        group = row // ROWS
        for tap in range(n_taps):
            for panel in range(panels):
                at = (((tap * panels + panel) * groups + group) * ROWS + row - group * ROWS) * width
                for lane in range(min(width, columns - panel * width)):
                    total = sums[at + lane]
                    for split in range(1, pixel_splits):
                        total += sums[split * size + at + lane]
                    column = panel * width + lane
                    s = column // channels
                    c = column - s * channels
                    gradient[(row * channels + c) * n_taps * across + tap * across + s] = total


@kernel
def _reduce(reduction, taps, dy, x, sums, width, splits, across, gradient, n_threads):  # type: ignore[no-untyped-def]
    parallel_for(
        _reduce_task, splits[0] * splits[1], n_threads, (reduction, taps, dy, x, sums, width, splits)
    )
    parallel_for(
        _gather_task,
        n_threads,
        n_threads,
        (n_threads, reduction[5], reduction[12], taps.shape[0], sums, width, splits[0], across, gradient),
    )


def reduce(reduction: Reduction, taps: Array, dy: Array, x: Array, across: int, gradient: Array) -> None:
    """Write the weight gradient of one group.

    Args:
        reduction: the geometry.
        taps: int64 (taps, 2), what each tap adds to a pixel's source y and x.
        dy: gradient of the output, its memory C-contiguous.
        x: the input, its memory C-contiguous.
        across: kernel columns that one tap spans (1: a tap is one kernel position).
        gradient: 1-D, receives (out, in, kh, kw).
    """
    width = panel_width(x.itemsize)
    groups, panels = -(-reduction.rows // ROWS), -(-reduction.columns // width)
    pixels = reduction.images * reduction.out_h * reduction.out_w
    units = len(taps) * groups * panels
    work = pixels * reduction.rows * reduction.columns * len(taps)
    threads = num_threads() if work > _SMALL else 1
    splits = (1, threads) if units >= 8 * threads and pixels < 1024 * threads else (threads, 1)
    sums = aligned_empty(splits[0] * units * ROWS * width, x.dtype)
    _reduce(tuple(reduction), taps, dy, x, sums, width, splits, across, gradient, threads)
