"""The weight gradient: one matrix product per tap whose sum runs over pixels.

    dW[k, tap, c] = sum over pixels p of dy[p, k] * x[pixel that tap reaches from p, c]

Rows are output channels k (their ``dy`` packed ``ROWS`` abreast), columns are input channels c, read in place
through a table of pixel addresses, or from a copy where pixels lie so that they would drive each other from
the cache. Pixels come in blocks of ``_BLOCK`` so that the block of x that a panel of columns reads stays in
the L1 cache while every group of rows uses it.

Work is dealt by pixels. Partial sums are then added in the order of the pixels, so the bits depend on the
number of threads only. Where pixels are few and channels many, ``weight_gradient_deep`` does better.

Limit: fused multiply-adds; a tile's sums are read and written once per ``_BLOCK`` steps.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv import weight_gradient_deep
from nbconv_kernels.cpu.conv.implicit_gemm import tiles
from nbconv_kernels.cpu.conv.packing import panel_width
from nbconv_kernels.cpu.conv.reduction_tables import Reduction, abreast_at, first_row, put_abreast, tabulate
from nbconv_kernels.cpu.conv.reduction_tile import multiply_tile
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, scratch
from nbconv_kernels.cpu.microkernel import ROWS, SHORT_ROWS, VECTORS
from nbconv_kernels.cpu.movement import address, gather_panel, keep_alive

_BLOCK = 128  # pixels: 192 rows of two vectors are 24 KB, half of an L1 cache
_ALIASED = 512  # bytes
_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves


@kernel
def _reduce_task(task, n_tasks, reduction, covers, taps, dy, x, sums, width):
    whole, short = covers
    images, out_h, out_w, out_pixel, out_start, _ = reduction[:6]
    columns, x_pixel = reduction[12], reduction[8]
    # Pixels a multiple of 512 bytes apart fall into an eighth of the L1 cache's sets, or fewer.
    gathered = x_pixel * x.itemsize % _ALIASED == 0 and columns > width
    n_taps = taps.shape[0]
    groups = whole + short
    padded_rows = whole * ROWS + short * SHORT_ROWS
    panels = (columns + width - 1) // width
    stride = panels * width
    pixels = images * out_h * out_w
    first_pixel, last_pixel = pixels * task // n_tasks, pixels * (task + 1) // n_tasks
    own = task * n_taps * padded_rows * stride
    if first_pixel == last_pixel:
        for i in range(own, own + n_taps * padded_rows * stride):
            sums[i] = 0
        return

    zeros = np.zeros(stride, x.dtype)
    # A panel's vectors may reach past a pixel's channels: harmless, as those sums are dropped, except past
    # the end of the array. The last elements are read from a copy with room behind it.
    limit = max(0, x.size - stride)
    tail = np.zeros(x.size - limit + stride, x.dtype)
    for i in range(x.size - limit):
        tail[i] = x[limit + i]
    zeros_at, tail_at, base = address(zeros, 0), address(tail, 0), address(x, 0)
    steps = np.empty(n_taps * _BLOCK, np.int64)
    abreast = np.empty(abreast_at(groups, whole, _BLOCK), x.dtype)
    block = np.empty(_BLOCK * width, x.dtype)
    block_rows = np.empty(_BLOCK, np.int64)
    for pixel in range(_BLOCK):
        block_rows[pixel] = address(block, pixel * width)
    for first in range(first_pixel, last_pixel, _BLOCK):
        count = min(_BLOCK, last_pixel - first)
        add = first > first_pixel
        tabulate(first, count, _BLOCK, reduction, taps, base, x.itemsize, zeros_at, limit, tail_at, steps)
        put_abreast(first, count, _BLOCK, out_pixel, out_start, whole, 0, groups, dy, abreast)
        # What the next block reads comes to the L2 cache meanwhile, a share of it with every tile.
        dy_bytes = max(0, min(_BLOCK, last_pixel - first - count)) * out_pixel * dy.itemsize
        dy_at = address(dy, (first + count) * out_pixel) if dy_bytes else address(dy, 0)
        x_at = steps[count - 1]
        x_bytes = x_at - steps[0]
        if n_taps > 1 or not 0 < x_bytes <= 2 * dy_bytes * x_pixel // out_pixel:
            x_bytes = 0
        share = (dy_bytes + x_bytes) // (n_taps * panels * groups)
        ahead, ahead_step = 0, (share + count - 1) // count
        for tap in range(n_taps):
            at = tap * _BLOCK
            for panel in range(panels):
                column = panel * width
                wide = columns - column > width // VECTORS
                if gathered:
                    for pixel in range(count):
                        gather_panel(steps, at + pixel, column, block, pixel * width)
                    table, table_at, shift = block_rows, 0, 0
                else:
                    table, table_at, shift = steps, at, column
                for group in range(groups):
                    row, rows_at = first_row(group, whole), abreast_at(group, whole, _BLOCK)
                    to = own + ((tap * panels + panel) * padded_rows + row) * width
                    fetch = dy_at + ahead if ahead < dy_bytes else x_at + ahead - dy_bytes
                    ahead += share
                    multiply_tile(
                        *(group < whole, wide, table, table_at, count, shift, abreast, rows_at),
                        *(sums, to, width, add, fetch, ahead_step),
                    )
    keep_alive(zeros)
    keep_alive(tail)
    keep_alive(block)


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
    parallel_for(_reduce_task, splits, n_threads, (splits, reduction, covers, taps, dy, x, sums, width))
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
            splits,
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
    if weight_gradient_deep.suits(reduction, sum(covers), panels, len(taps), across, get_num_threads()):
        threads = get_num_threads() if work > _SMALL else 1
        weight_gradient_deep.reduce(reduction, covers, taps, dy, x, width, gradient, threads)
        return
    # The split decides the bits, so it goes by the threads set and not by those free at the moment.
    splits = get_num_threads() if work > _SMALL else 1
    sums = scratch("weight gradient", splits * len(taps) * panels * padded_rows * width, x.dtype)
    threads = min(splits, get_num_threads())
    _reduce(tuple(reduction), covers, taps, dy, x, sums, width, splits, across, gradient, threads)
