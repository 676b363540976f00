"""The weight gradient: one matrix product per tap whose sum runs over pixels.

    dW[k, tap, c] = sum over pixels p of dy[p, k] * x[pixel that tap reaches from p, c]

Rows are output channels k (their ``dy`` packed ``ROWS`` abreast), columns are input channels c, read in place
through a table of pixel addresses. Pixels come in blocks of ``_BLOCK`` so that the block of x that a panel of
columns reads stays in the L1 cache while every group of rows uses it.

Work is dealt by (tap, panel, rows) where there is enough of that, and by pixels besides where there is not;
partial sums are then added in the order of the pixels, so the bits depend on the number of threads only.

Limit: fused multiply-adds; a tile's sums are read and written once per ``_BLOCK`` steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import tiles
from nbconv_kernels.cpu.conv.packing import panel_width
from nbconv_kernels.cpu.jit import get_num_threads, kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array, scratch
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    SHORT_ROWS,
    VECTORS,
    multiply_reduce_1,
    multiply_reduce_2,
    multiply_short_reduce_1,
    multiply_short_reduce_2,
)
from nbconv_kernels.cpu.movement import address, copy_vectors, keep_alive

_BLOCK = 192  # pixels: 192 rows of two vectors are 24 KB, half of an L1 cache
_GAP = 2 * ROWS  # elements between groups of rows: room for the vectors that copy them
_MANY_PIXELS = 1024  # for each thread: from there on, adding up partial sums costs little beside making them
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
def _tabulate(first, count, reduction, taps, first_tap, last_tap, base, item, zeros, limit, tail, steps):
    """Addresses of the source pixels of ``count`` pixels: ``steps[(tap - first_tap) * _BLOCK + pixel]``.

    Elements from ``limit`` on are read from the ``tail``.
    """
    _, out_h, out_w = reduction[:3]
    source_h, source_w, source_pixel, source_start, step_y, step_x = reduction[6:12]
    from_y = np.empty(_BLOCK, np.int64)
    from_x = np.empty(_BLOCK, np.int64)
    start = np.empty(_BLOCK, np.int64)
    image = first // (out_h * out_w)
    y = (first - image * out_h * out_w) // out_w
    x = first - (image * out_h + y) * out_w
    for pixel in range(count):
        from_y[pixel] = y * step_y
        from_x[pixel] = x * step_x
        start[pixel] = ((image * source_h + y * step_y) * source_w + x * step_x) * source_pixel + source_start
        x += 1
        if x == out_w:
            x = 0
            y += 1
            if y == out_h:
                y = 0
                image += 1
    for tap in range(first_tap, last_tap):
        tap_y, tap_x = taps[tap, 0], taps[tap, 1]
        shift = (tap_y * source_w + tap_x) * source_pixel
        at = (tap - first_tap) * _BLOCK
        for pixel in range(count):
            to_y = from_y[pixel] + tap_y
            to_x = from_x[pixel] + tap_x
            inside = (to_y >= 0) & (to_y < source_h) & (to_x >= 0) & (to_x < source_w)
            element = start[pixel] + shift
            where = base + element * item if element < limit else tail + (element - limit) * item
            steps[at + pixel] = where if inside else zeros


@kernel
def _put_abreast(first, count, pixel, start, whole, groups, gradient, abreast):
    """The channels of ``count`` pixels of dy, regrouped so that each tile's rows lie together for each pixel.

    Whole vectors are copied. What they write too much, the next copy overwrites or the gap between groups
    takes; what a last tile holds of other channels goes to sums that are dropped.
    """
    for step in range(count):
        at = (first + step) * pixel + start
        for group in range(groups):
            height = ROWS if group < whole else SHORT_ROWS
            to = _abreast_at(group, whole) + step * height
            if at + 2 * ROWS <= gradient.size:
                copy_vectors(gradient, at, abreast, to, height)
            else:  # not past the end of the array
                for i in range(height):
                    abreast[to + i] = gradient[at + i] if at + i < gradient.size else 0
            at += height


@kernel
def _abreast_at(group, whole):
    """Where a group of rows begins in ``abreast``."""
    row = min(group, whole) * ROWS + max(0, group - whole) * SHORT_ROWS
    return row * _BLOCK + group * _GAP


@kernel
def _reduce_task(task, reduction, covers, taps, dy, x, sums, width, splits):
    pixel_splits, unit_splits = splits
    whole, short = covers
    images, out_h, out_w, out_pixel, out_start, _ = reduction[:6]
    columns = reduction[12]
    n_taps = taps.shape[0]
    groups = whole + short
    padded_rows = whole * ROWS + short * SHORT_ROWS
    panels = (columns + width - 1) // width
    stride = panels * width
    pixel_task = task // unit_splits
    unit_task = task - pixel_task * unit_splits
    units = n_taps * panels * groups
    first_unit, last_unit = units * unit_task // unit_splits, units * (unit_task + 1) // unit_splits
    pixels = images * out_h * out_w
    first_pixel, last_pixel = pixels * pixel_task // pixel_splits, pixels * (pixel_task + 1) // pixel_splits
    own = pixel_task * n_taps * padded_rows * stride
    if first_unit == last_unit:
        return
    if first_pixel == last_pixel:
        for i in range(own, own + n_taps * padded_rows * stride):
            sums[i] = 0
        return
    first_tap, last_tap = first_unit // (panels * groups), (last_unit - 1) // (panels * groups) + 1

    zeros = np.zeros(stride, x.dtype)
    # A panel's vectors may reach past a pixel's channels: harmless, as those sums are dropped, except past
    # the end of the array. The last elements are read from a copy with room behind it.
    limit = max(0, x.size - stride)
    tail = np.zeros(x.size - limit + stride, x.dtype)
    for i in range(x.size - limit):
        tail[i] = x[limit + i]
    zeros_at, tail_at, base = address(zeros, 0), address(tail, 0), address(x, 0)

    steps = np.empty((last_tap - first_tap) * _BLOCK, np.int64)
    abreast = np.empty(_abreast_at(groups, whole), x.dtype)
    for first in range(first_pixel, last_pixel, _BLOCK):
        count = min(_BLOCK, last_pixel - first)
        add = first > first_pixel
        _tabulate(
            first,
            count,
            reduction,
            taps,
            first_tap,
            last_tap,
            base,
            x.itemsize,
            zeros_at,
            limit,
            tail_at,
            steps,
        )
        _put_abreast(first, count, out_pixel, out_start, whole, groups, dy, abreast)
        tap = first_tap
        panel = (first_unit - tap * panels * groups) // groups
        group = first_unit - (tap * panels + panel) * groups
        for _ in range(first_unit, last_unit):
            row = min(group, whole) * ROWS + max(0, group - whole) * SHORT_ROWS
            at, rows_at = (tap - first_tap) * _BLOCK, _abreast_at(group, whole)
            column = panel * width
            to = own + ((tap * panels + panel) * padded_rows + row) * width
            if columns - column > width // VECTORS:
                if group < whole:
                    multiply_reduce_2(steps, at, count, column, abreast, rows_at, ROWS, sums, to, width, add)
                else:
                    multiply_short_reduce_2(
                        steps, at, count, column, abreast, rows_at, SHORT_ROWS, sums, to, width, add
                    )
            elif group < whole:
                multiply_reduce_1(steps, at, count, column, abreast, rows_at, ROWS, sums, to, width, add)
            else:
                multiply_short_reduce_1(
                    steps, at, count, column, abreast, rows_at, SHORT_ROWS, sums, to, width, add
                )
            group += 1
            if group == groups:
                group = 0
                panel += 1
                if panel == panels:
                    panel = 0
                    tap += 1
    keep_alive(zeros)
    keep_alive(tail)


@kernel
def _gather_task(
    task, n_tasks, rows, padded_rows, columns, n_taps, sums, width, pixel_splits, across, gradient
):
    """Add the partial sums, and put them in the order (out, in, kh, kw).

    With ``across`` = S > 1 a tap is a kernel row and its columns are (kernel column, channel).
    """
    panels = (columns + width - 1) // width
    size = n_taps * panels * padded_rows * width
    channels = columns // across
    tap_stride = panels * padded_rows * width
    for row in range(rows * task // n_tasks, rows * (task + 1) // n_tasks):
        for panel in range(panels):
            at = (panel * padded_rows + row) * width
            for lane in range(min(width, columns - panel * width)):
                column = panel * width + lane
                s = column // channels
                to = (row * channels + column - s * channels) * n_taps * across + s
                for tap in range(n_taps):
                    total = sums[at + tap * tap_stride + lane]
                    for split in range(1, pixel_splits):
                        total += sums[split * size + at + tap * tap_stride + lane]
                    gradient[to + tap * across] = total


@kernel
def _reduce(reduction, covers, taps, dy, x, sums, width, splits, across, gradient, n_threads):
    parallel_for(
        _reduce_task, splits[0] * splits[1], n_threads, (reduction, covers, taps, dy, x, sums, width, splits)
    )
    padded_rows = covers[0] * ROWS + covers[1] * SHORT_ROWS
    parallel_for(
        _gather_task,
        n_threads,
        n_threads,
        (
            n_threads,
            reduction[5],
            padded_rows,
            reduction[12],
            taps.shape[0],
            sums,
            width,
            splits[0],
            across,
            gradient,
        ),
    )


def reduce(reduction: Reduction, taps: Array, dy: Array, x: Array, across: int, gradient: Array) -> None:
    """Write the weight gradient of one group.

    Args:
        reduction: the geometry.
        taps: int64 (taps, 2), what each tap adds to a pixel's source y and x.
        dy: gradient of the output, 1-D in memory order.
        x: the input, 1-D in memory order.
        across: kernel columns that one tap spans (1: a tap is one kernel position).
        gradient: 1-D, receives (out, in, kh, kw).
    """
    width = panel_width(x.itemsize)
    covers = tiles(reduction.rows)
    padded_rows, panels = covers[0] * ROWS + covers[1] * SHORT_ROWS, -(-reduction.columns // width)
    pixels = reduction.images * reduction.out_h * reduction.out_w
    work = pixels * reduction.rows * reduction.columns * len(taps)
    # The split decides the bits, so it goes by the threads set and not by those free at the moment.
    tasks = get_num_threads() if work > _SMALL else 1
    by_units = len(taps) * panels * sum(covers) >= 8 * tasks and pixels < _MANY_PIXELS * tasks
    splits = (1, tasks) if by_units else (tasks, 1)
    sums = scratch("weight gradient", splits[0] * len(taps) * panels * padded_rows * width, x.dtype)
    _reduce(
        tuple(reduction),
        covers,
        taps,
        dy,
        x,
        sums,
        width,
        splits,
        across,
        gradient,
        min(tasks, num_threads()),
    )
