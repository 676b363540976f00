"""Winograd's weight gradient where its 36 sums a weight outgrow a cache: many channels, not too many tiles.

The points of all tiles are written down first, those of x in panels of columns and those of dy in blocks of
some hundred rows, so that what a product reads lies in one piece. For two panels and a block the products of
all 36 points are then summed over the tiles into a buffer in the L2 cache, and taken back to 9 taps at once:
sums of points never reach memory.

Limit: fused multiply-adds, and the L3 cache, from which two panels at a time read all points of dy.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import tiles
from nbconv_kernels.cpu.conv.packing import panel_width
from nbconv_kernels.cpu.conv.reduction_tables import first_row
from nbconv_kernels.cpu.conv.winograd_direct import clear_points, is_wild_part, mend_gradient
from nbconv_kernels.cpu.conv.winograd_tiles import POINTS, SKEW, grid, pixel_table, store_taps
from nbconv_kernels.cpu.conv.winograd_transforms import (
    transform_input,
    transform_output_gradient,
    transform_weight_gradient,
)
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, scratch
from nbconv_kernels.cpu.microkernel import ROWS, SHORT_ROWS, multiply_reduce_long_2, multiply_short_reduce_2
from nbconv_kernels.cpu.movement import address, keep_alive
from nbconv_kernels.cpu.simd import SIMD

_PANELS = 2  # of columns that share what is read of dy
_CHUNK = 128  # tiles: two panels' points take 32 KB
_LARGEST = 1 << 22  # elements of either side's points
_MOST_SUMS = 1 << 20  # elements that ``winograd`` may sum block by block in about the time it multiplies


def suits(tile_count: int, c: int, k: int) -> bool:
    """Whether the sums of all points are too many for a cache, and the tiles' points are not."""
    return POINTS * tile_count * max(c, k) <= _LARGEST and POINTS * c * k > _MOST_SUMS


@kernel
def _points_task(task, n_tasks, x, pads, tile_grid, points, layout, wild):
    """V: ``points[point * layout[0] + panel * layout[1] + tile * layout[2] + channel of the panel]``.

    A task makes the panels that it will multiply by, so that they are in its core's cache.
    """
    point_stride, panel_stride, width = layout
    zeros = np.zeros(x.shape[3], x.dtype)
    zeros_at = address(zeros, 0)
    inputs = np.empty(36, np.int64)
    panels = x.shape[3] // width
    first_panel, last_panel = panels * task // n_tasks, panels * (task + 1) // n_tasks
    for tile in range(tile_grid[0] * tile_grid[1] * tile_grid[2]):
        pixel_table(tile, tile_grid[1], tile_grid[2], 6, 4, pads[0], pads[1], x, zeros_at, inputs)
        for panel in range(first_panel, last_panel):
            at = panel * panel_stride + tile * width
            energies = transform_input(inputs, panel * width, width, points, at, point_stride)
            if is_wild_part(energies):  # as the panel's task sees it
                wild[tile] = 1
    keep_alive(zeros)


@kernel
def _gradient_points_task(task, n_tasks, dy, tile_grid, points, layout, wild):
    """DM, as ``_points_task``."""
    point_stride, block_stride, block = layout
    k = dy.shape[3]
    zeros = np.zeros(k, dy.dtype)
    zeros_at = address(zeros, 0)
    pixels = np.empty(16, np.int64)
    total = tile_grid[0] * tile_grid[1] * tile_grid[2]
    for tile in range(total * task // n_tasks, total * (task + 1) // n_tasks):
        pixel_table(tile, tile_grid[1], tile_grid[2], 4, 4, 0, 0, dy, zeros_at, pixels)
        at = tile * block
        for first in range(0, k, block):
            some = min(block, k - first)
            energies = transform_output_gradient(pixels, first, some, points, at, point_stride)
            if is_wild_part(energies):
                wild[tile] = 1
            at += block_stride
    keep_alive(zeros)


@kernel
def _clear_wild(wild, rows, columns, sides):
    """Zero the points of wild tiles on both sides."""
    points, (point_stride, panel_stride, width), gradients, (gradient_point_stride, block_stride, block) = (
        sides
    )
    for tile in range(wild.size):
        if wild[tile]:
            for panel in range(columns // width):
                clear_points(points, panel * panel_stride + tile * width, point_stride, width)
            for first in range(0, rows, block):
                at = first // block * block_stride + tile * block
                clear_points(gradients, at, gradient_point_stride, min(block, rows - first))


@kernel
def _weights_task(task, n_tasks, covers, rows, columns, tile_count, sides, gradient):
    points, layout, gradients, gradient_layout = sides
    point_stride, panel_stride, width = layout
    gradient_point_stride, block_stride, block = gradient_layout
    whole, short = covers
    panels = columns // width
    first_panel, last_panel = panels * task // n_tasks, panels * (task + 1) // n_tasks
    steps = np.empty(_CHUNK, np.int64)
    for tile in range(_CHUNK):
        steps[tile] = address(points, tile * width)
    group_size, item = POINTS * ROWS * width, points.itemsize
    panel_size = (block + SHORT_ROWS - 1) // SHORT_ROWS * group_size
    sums = np.empty(_PANELS * panel_size, gradient.dtype)
    taps = np.empty(9 * width, gradient.dtype)
    for first in range(first_panel, last_panel, _PANELS):
        last = min(last_panel, first + _PANELS)
        first_group = 0
        for block_row in range(0, rows, block):
            last_group = first_group
            while last_group < whole + short and first_row(last_group, whole) < block_row + block:
                last_group += 1
            from_block = block_row // block * block_stride
            for point in range(POINTS):
                for first_tile in range(0, tile_count, _CHUNK):
                    count, add = min(_CHUNK, tile_count - first_tile), first_tile > 0
                    rows_at = point * gradient_point_stride + from_block + first_tile * block - block_row
                    # What is multiplied next comes to the L2 cache meanwhile: dy's points with the first
                    # panel's products, x's with the second's.
                    following, next_point = first_tile + count, point
                    if following == tile_count:
                        following, next_point = 0, point + 1
                    next_rows = address(
                        gradients, next_point * gradient_point_stride + from_block + following * block
                    )
                    next_columns = next_point * point_stride + following * width
                    half = (last_group - first_group + 1) // 2
                    for panel in range(first, last):
                        column = point * point_stride + panel * panel_stride + first_tile * width
                        to = (panel - first) * panel_size + point * ROWS * width
                        for group in range(first_group, last_group):
                            turn = group - first_group
                            step = ROWS * item
                            fetch = next_rows + turn * count * step
                            if panel > first:
                                step = width * item // half
                                other = first if turn < half else panel
                                fetch = address(points, next_columns + other * panel_stride)
                                fetch += turn % half * count * step
                            at = rows_at + first_row(group, whole)
                            if group < whole:
                                multiply_reduce_long_2(
                                    steps,
                                    0,
                                    count,
                                    column,
                                    gradients,
                                    at,
                                    block,
                                    sums,
                                    to,
                                    width,
                                    add,
                                    fetch,
                                    step,
                                )
                            else:
                                multiply_short_reduce_2(
                                    steps,
                                    0,
                                    count,
                                    column,
                                    gradients,
                                    at,
                                    block,
                                    sums,
                                    to,
                                    width,
                                    add,
                                    fetch,
                                    step,
                                )
                            to += group_size
            for panel in range(first, last):
                for group in range(first_group, last_group):
                    row = first_row(group, whole)
                    own = (panel - first) * panel_size + (group - first_group) * group_size
                    for i in range(min(rows - row, ROWS if group < whole else SHORT_ROWS)):
                        transform_weight_gradient(sums, own + i * width, ROWS * width, width, taps, 0, width)
                        store_taps(taps, width, gradient, ((row + i) * columns + panel * width) * 9)
            first_group = last_group


@kernel
def _reduce(dy, x, pads, tile_grid, covers, sides, gradient, n_tasks):
    points, layout, gradients, gradient_layout = sides
    rows, columns, tile_count = dy.shape[3], x.shape[3], tile_grid[0] * tile_grid[1] * tile_grid[2]
    wild = np.zeros(tile_count, np.uint8)
    parallel_for(_points_task, n_tasks, n_tasks, (n_tasks, x, pads, tile_grid, points, layout, wild))
    parallel_for(
        _gradient_points_task, n_tasks, n_tasks, (n_tasks, dy, tile_grid, gradients, gradient_layout, wild)
    )
    _clear_wild(wild, rows, columns, sides)
    parallel_for(
        _weights_task, n_tasks, n_tasks, (n_tasks, covers, rows, columns, tile_count, sides, gradient)
    )
    mend_gradient(wild, tile_grid, x, dy, pads, gradient, n_tasks)


def reduce(dy: Array, x: Array, pads: tuple[int, int], gradient: Array) -> None:
    """Write the weight gradient (K, C, 3, 3), 1-D, from ``dy`` (N, P, Q, K) and ``x`` (N, H, W, C)."""
    (c, k), tile_grid = (x.shape[3], dy.shape[3]), grid(dy)
    total, width = math.prod(tile_grid), panel_width(x.itemsize)
    block, covers = _rows(k, x.itemsize)
    # Both ends have room for the rows and tiles that a last micro-kernel reads and drops.
    layout = c * total + SKEW, total * width, width
    gradient_layout = -(-k // block) * total * block + SKEW, total * block, block
    points = scratch("winograd points", POINTS * layout[0] + _CHUNK * width, x.dtype)
    gradients = scratch("winograd gradients", POINTS * gradient_layout[0], x.dtype)
    sides = points, layout, gradients, gradient_layout
    _reduce(dy, x, pads, tile_grid, covers, sides, gradient, get_num_threads())


@lru_cache(maxsize=256)
def _rows(k: int, itemsize: int) -> tuple[int, tuple[int, int]]:
    """Rows in a block, whole vectors and whole tiles of them, and the tiles that cover ``k`` rows."""
    block = math.lcm(ROWS, SIMD.lanes(itemsize))
    block *= max(1, 112 // block)
    whole, short = tiles(k)
    starts = [whole * ROWS + i * SHORT_ROWS for i in range(short)]
    if any(start // block != (start + SHORT_ROWS - 1) // block for start in starts):
        whole, short = -(-k // ROWS), 0  # no tile may lie in two blocks
    return block, (whole, short)
