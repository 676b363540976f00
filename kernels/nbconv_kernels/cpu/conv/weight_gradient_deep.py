"""The weight gradient where channels are many and pixels few: the last stages of a network, dense layers.

There the gradient itself is large, and sums that come back to memory after every block of pixels would cost
more than the products. So each task owns groups of rows (or, where rows are few, panels of columns) and sums
a tile over all pixels at once: first it puts the dy of a few groups abreast, as much as an L2 cache holds,
then every panel of x goes past them. Finished sums go straight to the gradient.

Limit: fused multiply-adds; x is read from the L3 cache once for every few groups.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv.reduction_tables import Reduction, abreast_at, first_row, put_abreast, tabulate
from nbconv_kernels.cpu.conv.reduction_tile import multiply_tile
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.microkernel import ROWS, SHORT_ROWS, VECTORS
from nbconv_kernels.cpu.movement import address, gather_panel, keep_alive
from nbconv_kernels.cpu.vector import lanes, transpose_square

_MOST_PIXELS = 2000
_BLOCK = 128  # pixels of x: their panel takes half of an L1 cache
_ABREAST = 1 << 18  # elements of dy, about, that wait in an L2 cache
_FEW = 4  # groups a task: below, panels are dealt instead


def suits(reduction: Reduction, groups: int, panels: int, taps: int, across: int, tasks: int) -> bool:
    """Whether all pixels can be summed at once, and there is work for all tasks."""
    pixels = reduction.images * reduction.out_h * reduction.out_w
    return across == 1 and pixels <= _MOST_PIXELS and max(groups, panels) * taps >= 8 * tasks


@kernel
def _store(sums, taps, width, rows, columns, row, column, gradient):
    """Put the sums of a tile, ``sums[tap, row, lane]``, in the order (out, in, kh, kw)."""
    side = lanes(sums)
    tap_size = ROWS * width
    count = min(width, columns - column)
    for i in range(rows):
        to = ((row + i) * columns + column) * taps
        if taps == 1:
            for lane in range(count):
                gradient[to + lane] = sums[i * width + lane]
            continue
        for first in range(0, taps, side):
            for lane in range(0, count, side):
                at = first * tap_size + i * width + lane
                there = to + lane * taps + first
                height = min(side, taps - first)
                transpose_square(sums, at, tap_size, gradient, there, taps, height, min(side, count - lane))


@kernel
def _weights_task(task, n_tasks, reduction, covers, taps, dy, x, width, by_panels, gradient):
    images, out_h, out_w, out_pixel, out_start, rows = reduction[:6]
    columns = reduction[12]
    whole, short = covers
    groups, panels = whole + short, (columns + width - 1) // width
    n_taps = taps.shape[0]
    pixels = images * out_h * out_w
    first_group, last_group, first_panel, last_panel = 0, groups, 0, panels
    if by_panels:
        first_panel, last_panel = panels * task // n_tasks, panels * (task + 1) // n_tasks
    else:
        first_group, last_group = groups * task // n_tasks, groups * (task + 1) // n_tasks
    if first_group == last_group or first_panel == last_panel:
        return

    stride = panels * width
    zeros = np.zeros(stride, x.dtype)
    # A panel's vectors may reach past a pixel's channels: harmless, as those sums are dropped, except past
    # the end of the array. The last elements are read from a copy with room behind it.
    limit = max(0, x.size - stride)
    tail = np.zeros(x.size - limit + stride, x.dtype)
    for i in range(x.size - limit):
        tail[i] = x[limit + i]
    zeros_at, tail_at, base = address(zeros, 0), address(tail, 0), address(x, 0)
    steps = np.empty(n_taps * pixels, np.int64)
    tabulate(0, pixels, pixels, reduction, taps, base, x.itemsize, zeros_at, limit, tail_at, steps)
    chunk = max(1, min(last_group - first_group, _ABREAST // (ROWS * max(pixels, 1))))
    abreast = np.empty(abreast_at(chunk, chunk, pixels), x.dtype)
    group_size = n_taps * ROWS * width
    sums = np.empty(chunk * group_size, x.dtype)
    block = np.empty(_BLOCK * width, x.dtype)
    block_rows = np.empty(_BLOCK, np.int64)
    for pixel in range(_BLOCK):
        block_rows[pixel] = address(block, pixel * width)
    nothing_ahead = address(block, 0)
    for first in range(first_group, last_group, chunk):
        last = min(last_group, first + chunk)
        put_abreast(0, pixels, pixels, out_pixel, out_start, whole, first, last, dy, abreast)
        begin = abreast_at(first, whole, pixels)
        for panel in range(first_panel, last_panel):
            column = panel * width
            wide = columns - column > width // VECTORS
            for tap in range(n_taps):
                for first_pixel in range(0, pixels, _BLOCK):
                    count = min(_BLOCK, pixels - first_pixel)
                    for pixel in range(count):
                        gather_panel(steps, tap * pixels + first_pixel + pixel, column, block, pixel * width)
                    add, to = first_pixel > 0, tap * ROWS * width
                    for group in range(first, last):
                        row = abreast_at(group, whole, pixels) - begin
                        row += first_pixel * (ROWS if group < whole else SHORT_ROWS)
                        multiply_tile(
                            *(group < whole, wide, block_rows, 0, count, 0, abreast, row),
                            *(sums, to, width, add, nothing_ahead, 0),
                        )
                        to += group_size
            for group in range(first, last):
                row = first_row(group, whole)
                height = min(rows - row, ROWS if group < whole else SHORT_ROWS)
                own = sums[(group - first) * group_size :]
                _store(own, n_taps, width, height, columns, row, column, gradient)
    keep_alive(zeros)
    keep_alive(tail)
    keep_alive(block)


@kernel
def _weights(reduction, covers, taps, dy, x, width, by_panels, gradient, n_tasks):
    parallel_for(
        _weights_task,
        n_tasks,
        n_tasks,
        (n_tasks, reduction, covers, taps, dy, x, width, by_panels, gradient),
    )


def reduce(
    reduction: Reduction,
    covers: tuple[int, int],
    taps: Array,
    dy: Array,
    x: Array,
    width: int,
    gradient: Array,
    tasks: int,
) -> None:
    """As ``weight_gradient.reduce``; the rows are covered by ``covers`` whole and short tiles."""
    by_panels = sum(covers) < _FEW * tasks
    _weights(tuple(reduction), covers, taps, dy, x, width, by_panels, gradient, tasks)
