"""Winograd's convolution where channels are many and tiles few: the last stages of a network.

There the transformed weights are what costs: 36 points for 9 taps, read once for a handful of tiles. So the
roles change against ``winograd``. The tiles' points are written down for the whole batch, and each task takes
panels of output channels: it packs a panel's weights, transforms them and multiplies all tiles by them before
it turns to the next, so that transformed weights live and die in its core's L2 cache.

The weight gradient likewise: for a tile of 14 x 2 vectors of weights, the products of all 36 points are
summed over all tiles of the batch into a buffer that fits the L1 cache, and taken back to 9 taps at once.
Sums of 36 points never reach memory.

Limit: fused multiply-adds, and the L3 cache's bandwidth, from which every panel reads the tiles' points.
"""

from __future__ import annotations

import math

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import tiles
from nbconv_kernels.cpu.conv.packing import pack_range, panel_width
from nbconv_kernels.cpu.conv.winograd_tiles import POINTS, SKEW, grid, pixel_table, store_taps
from nbconv_kernels.cpu.conv.winograd_transforms import (
    transform_input,
    transform_output,
    transform_output_gradient,
    transform_weight,
    transform_weight_gradient,
)
from nbconv_kernels.cpu.epilogue import PLAIN, Finish
from nbconv_kernels.cpu.jit import kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array, scratch
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    SHORT_ROWS,
    VECTORS,
    multiply_reduce_2,
    multiply_rows_2,
    multiply_short_reduce_2,
    multiply_short_rows_2,
)
from nbconv_kernels.cpu.movement import address, keep_alive

Packing = tuple[tuple[int, int], int, Array, int]  # strides, runs, places and a run's place: see ``pack``

_BLOCK = 4 * ROWS  # tiles multiplied before they are transformed back: a quarter of an L2 cache
_GROUPS = 4  # of rows of the weight gradient that share what is read of the tiles
_LARGEST = 1 << 22  # elements of the tiles' points


def suits(tile_count: int, channels: int, weight_gradient: bool = False) -> bool:
    """Whether the points of all tiles stay near the cores, and are fewer than the transformed weights."""
    few = channels // 2 if weight_gradient else channels
    return POINTS * tile_count * channels <= _LARGEST and tile_count < few


@kernel
def _points_task(task, n_tasks, x, pads, tile_grid, points, strides):
    """V of all tiles: ``points[point * strides[0] + tile * strides[1] + channel]``."""
    point_stride, stride = strides
    c = x.shape[3]
    zeros = np.zeros(c, x.dtype)
    zeros_at = address(zeros, 0)
    inputs = np.empty(36, np.int64)
    total = tile_grid[0] * tile_grid[1] * tile_grid[2]
    for tile in range(total * task // n_tasks, total * (task + 1) // n_tasks):
        pixel_table(tile, tile_grid[1], tile_grid[2], 6, 4, pads[0], pads[1], x, zeros_at, inputs)
        transform_input(inputs, c, points, tile * stride, point_stride)
    keep_alive(zeros)


@kernel
def _panels_task(task, n_tasks, weight, packing, tile_grid, points, strides, zero_bias, bias, target, memory):
    column_strides, runs, places, run_place = packing
    point_stride, stride = strides
    y, channel, finish = target
    k, width = bias.size, zero_bias.size
    depth = places.size * runs // 9
    total = tile_grid[0] * tile_grid[1] * tile_grid[2]
    n_panels = k // width
    m_stride = _BLOCK * width + SKEW
    size = (9 + POINTS) * depth * width + POINTS * m_stride
    own = memory[task * size : (task + 1) * size]
    packed, transformed = own[: 9 * depth * width], own[9 * depth * width : (9 + POINTS) * depth * width]
    products = own[(9 + POINTS) * depth * width :]
    sources = np.empty(POINTS * _BLOCK, np.int64)
    targets = np.empty(POINTS * _BLOCK, np.int64)
    for point in range(POINTS):
        for tile in range(_BLOCK):
            targets[point * _BLOCK + tile] = address(products, point * m_stride + tile * width)
    spare = np.empty(width, y.dtype)
    spare_at = address(spare, 0)
    outputs = np.empty(16, np.int64)
    last_row = address(points, (total - 1) * stride)
    for panel in range(n_panels * task // n_tasks, n_panels * (task + 1) // n_tasks):
        column = panel * width
        start = column * column_strides[0]
        pack_range(
            0, VECTORS * runs, weight, start, column_strides, width, runs, places, run_place, width, packed
        )
        for d in range(depth):
            transform_weight(packed, d * width, depth * width, width, transformed, d * width, depth * width)
        for first in range(0, total, _BLOCK):
            count = min(_BLOCK, total - first)
            for point in range(POINTS):
                shift = point * point_stride * points.itemsize
                row = 0
                while row < count:
                    height = ROWS if count - row > SHORT_ROWS else SHORT_ROWS
                    table = point * _BLOCK + row
                    for i in range(height):  # rows past the last tile are computed from it and dropped
                        at = address(points, (first + row + i) * stride)
                        sources[table + i] = min(at, last_row) + shift
                    at = point * depth * width
                    if height == ROWS:
                        multiply_rows_2(
                            sources,
                            table,
                            0,
                            1,
                            depth,
                            transformed,
                            at,
                            zero_bias,
                            0,
                            targets,
                            table,
                            0,
                            width,
                        )
                    else:
                        multiply_short_rows_2(
                            sources,
                            table,
                            0,
                            1,
                            depth,
                            transformed,
                            at,
                            zero_bias,
                            0,
                            targets,
                            table,
                            0,
                            width,
                        )
                    row += height
            for tile in range(count):
                pixel_table(first + tile, tile_grid[1], tile_grid[2], 4, 4, 0, 0, y, spare_at, outputs)
                for pixel in range(16):
                    outputs[pixel] += (channel + column) * y.itemsize if outputs[pixel] != spare_at else 0
                transform_output(products, tile * width, m_stride, width, bias[column:], outputs, finish)
    keep_alive(spare)


@kernel
def _convolve(weight, packing, x, pads, tile_grid, points, strides, zero_bias, bias, target, memory, n_tasks):
    parallel_for(_points_task, n_tasks, n_tasks, (n_tasks, x, pads, tile_grid, points, strides))
    parallel_for(
        _panels_task,
        n_tasks,
        n_tasks,
        (n_tasks, weight, packing, tile_grid, points, strides, zero_bias, bias, target, memory),
    )


def convolve(
    weight: Array,
    packing: Packing,
    x: Array,
    bias: Array,
    pads: tuple[int, int],
    y: Array,
    channel: int = 0,
    finish: Finish = PLAIN,
) -> None:
    """Write ``y`` (N, P, Q, at least K) from ``x`` (N, H, W, C), both in memory order.

    Args:
        weight: 1-D.
        packing: the strides, runs, places and place of a run that ``pack`` takes for it.
        x: the pixels to convolve.
        bias: (K,).
        pads: above and left of the pixels.
        y: receives the result.
        channel: of ``y``, the first to be written.
        finish: of the sums.
    """
    c, threads, width = x.shape[3], num_threads(), panel_width(x.itemsize)
    tile_grid = grid(y)
    stride = c + SKEW
    strides = math.prod(tile_grid) * stride + SKEW, stride
    points = scratch("winograd points", POINTS * strides[0], x.dtype)
    size = (9 + POINTS) * c * width + POINTS * (_BLOCK * width + SKEW)
    memory = scratch("winograd block", threads * size, x.dtype)
    zero_bias, target = np.zeros(width, x.dtype), (y, channel, finish)
    _convolve(weight, packing, x, pads, tile_grid, points, strides, zero_bias, bias, target, memory, threads)


@kernel
def _gradient_points_task(task, n_tasks, dy, tile_grid, points, strides):
    """DM of all tiles, as ``_points_task``."""
    point_stride, stride = strides
    k = dy.shape[3]
    zeros = np.zeros(k, dy.dtype)
    zeros_at = address(zeros, 0)
    pixels = np.empty(16, np.int64)
    total = tile_grid[0] * tile_grid[1] * tile_grid[2]
    for tile in range(total * task // n_tasks, total * (task + 1) // n_tasks):
        pixel_table(tile, tile_grid[1], tile_grid[2], 4, 4, 0, 0, dy, zeros_at, pixels)
        transform_output_gradient(pixels, k, points, tile * stride, point_stride)
    keep_alive(zeros)


@kernel
def _weights_task(task, n_tasks, covers, rows, columns, tile_count, sides, width, gradient):
    points, strides, gradients, gradient_strides = sides
    point_stride, stride = strides
    gradient_point_stride, gradient_stride = gradient_strides
    whole, short = covers
    groups = whole + short
    panels = columns // width
    first_panel, last_panel = panels * task // n_tasks, panels * (task + 1) // n_tasks
    steps = np.empty(POINTS * tile_count, np.int64)
    for point in range(POINTS):
        for tile in range(tile_count):
            steps[point * tile_count + tile] = address(points, point * point_stride + tile * stride)
    group_size = POINTS * ROWS * width
    sums = np.empty(_GROUPS * group_size, gradient.dtype)
    taps = np.empty(9 * width, gradient.dtype)
    for first in range(0, groups, _GROUPS):
        last = min(groups, first + _GROUPS)
        for panel in range(first_panel, last_panel):
            column = panel * width
            for point in range(POINTS):
                at, from_point = point * tile_count, point * gradient_point_stride
                to = point * ROWS * width
                for group in range(first, last):
                    if group < whole:
                        row = from_point + group * ROWS
                        multiply_reduce_2(
                            steps,
                            at,
                            tile_count,
                            column,
                            gradients,
                            row,
                            gradient_stride,
                            sums,
                            to,
                            width,
                            False,
                        )
                    else:
                        row = from_point + whole * ROWS + (group - whole) * SHORT_ROWS
                        multiply_short_reduce_2(
                            steps,
                            at,
                            tile_count,
                            column,
                            gradients,
                            row,
                            gradient_stride,
                            sums,
                            to,
                            width,
                            False,
                        )
                    to += group_size
            for group in range(first, last):
                row = min(group, whole) * ROWS + max(0, group - whole) * SHORT_ROWS
                height = min(rows - row, ROWS if group < whole else SHORT_ROWS)
                for i in range(height):
                    at = (group - first) * group_size + i * width
                    transform_weight_gradient(sums, at, ROWS * width, width, taps, 0, width)
                    to = ((row + i) * columns + column) * 9
                    store_taps(taps, width, gradient, to)


@kernel
def _reduce(dy, x, pads, tile_grid, covers, sides, width, gradient, n_tasks):
    points, strides, gradients, gradient_strides = sides
    parallel_for(_points_task, n_tasks, n_tasks, (n_tasks, x, pads, tile_grid, points, strides))
    parallel_for(
        _gradient_points_task, n_tasks, n_tasks, (n_tasks, dy, tile_grid, gradients, gradient_strides)
    )
    rows, columns, tile_count = dy.shape[3], x.shape[3], tile_grid[0] * tile_grid[1] * tile_grid[2]
    parallel_for(
        _weights_task,
        n_tasks,
        n_tasks,
        (n_tasks, covers, rows, columns, tile_count, sides, width, gradient),
    )


def reduce(dy: Array, x: Array, pads: tuple[int, int], gradient: Array) -> None:
    """Write the weight gradient (K, C, 3, 3), 1-D, from ``dy`` (N, P, Q, K) and ``x`` (N, H, W, C)."""
    (c, k), tile_grid = (x.shape[3], dy.shape[3]), grid(dy)
    strides, gradient_strides = (
        (math.prod(tile_grid) * stride + SKEW, stride) for stride in (c + SKEW, k + SKEW)
    )
    points = scratch("winograd points", POINTS * strides[0], x.dtype)
    gradients = scratch("winograd gradients", POINTS * gradient_strides[0] + SKEW, x.dtype)
    sides = points, strides, gradients, gradient_strides
    width = panel_width(x.itemsize)
    _reduce(dy, x, pads, tile_grid, tiles(k), sides, width, gradient, num_threads())
