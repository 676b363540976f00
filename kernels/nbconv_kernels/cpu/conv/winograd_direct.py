"""Tiles that Winograd's transforms would spoil, computed directly.

The transforms add and subtract all pixels of a tile, so its largest pixel leaves rounding errors of its own
size, infinities and NaN, in outputs that do not see it. That is harmless where pixels are about as large as
each other, as they are in photographs, features and gradients. A tile is *wild* where they are not:

* some pixel is infinite or NaN, or so large that a transform or a product could overflow;
* the tile has more than ``_RANGE`` times the energy (the sum of squares over pixels and channels) of one of
  the cells of 2 x 2 pixels that it consists of. Every output sees a whole cell (but those at an edge that is
  padded by 2), so in tiles that are not wild the root of all energy is at most 512 times that of the energy
  which an output sees.

``transform_input`` sums the squares on its way, for one instruction a pixel. ``winograd`` and
``winograd_deep`` skip wild tiles when they store; then ``mend`` computes these from pixels and weights. The
weight gradients leave them out, and ``mend_gradient`` adds what they contribute.

Limit: fused multiply-adds, four times as many as Winograd's; no time where no tile is wild.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.addresses import array_at
from nbconv_kernels.cpu.conv.winograd_tiles import POINTS, pixel_table
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.microkernel import SHORT_ROWS, multiply_and_finish_short_2
from nbconv_kernels.cpu.movement import address, keep_alive

Layout = tuple[int, int, int, int]
"""Where a weight lies: elements between columns and between channels, to the first tap, and between taps."""

_LARGEST = 1e30  # energy: values up to 1e15 times weights up to 1e20 stay far from overflow
_RANGE = 2.0**18  # of energies
_NOTHING = 2.0**-95  # energy: that of zeros, as it is counted, and twice as much
_GROUPS = (16 + SHORT_ROWS - 1) // SHORT_ROWS  # short tiles of the micro-kernel that hold the 16 outputs


@kernel
def is_wild(energies, top, bottom, left, right):
    """Whether a tile with these energies of its cells is to be computed directly.

    A cell of zeros counts only in the rows from ``top`` to ``bottom`` and the columns from ``left`` to
    ``right`` of a 6 x 6 tile's cells: outputs that see nothing else should be exactly that, but padding is no
    reason.
    """
    total = energies[0]
    for cell in range(1, len(energies)):
        total += energies[cell]
    if not total < _LARGEST:
        return True
    least = total
    for cell in range(len(energies)):
        counts = (top <= cell // 3 < bottom) and (left <= cell % 3 < right)
        if energies[cell] > _NOTHING or counts:
            least = min(least, energies[cell])
    return total > _RANGE * least


@kernel
def is_wild_input(energies, tile, tiles_y, tiles_x, h, w, pads):
    """Whether a tile of images (H, W) is: every cell with a pixel inside counts."""
    y = 4 * (tile // tiles_x % tiles_y) - pads[0]
    x = 4 * (tile % tiles_x) - pads[1]
    return is_wild(energies, max(0, -y // 2), (h - y + 1) // 2, max(0, -x // 2), (w - x + 1) // 2)


@kernel
def is_wild_part(energies):
    """Whether a tile whose products are summed is, on this side: zeros add nothing."""
    return is_wild(energies, 0, 0, 0, 0)


@kernel
def _mend_task(task, n_tasks, wild, tile_grid, weight, layout, x, bias, pads, target, width):
    column_stride, channel_stride, first_tap, tap_step = layout
    y, channel, finish = target
    c, panels = x.shape[3], bias.size // width
    first_panel, last_panel = panels * task // n_tasks, panels * (task + 1) // n_tasks
    zeros = np.zeros(c, x.dtype)
    spare = np.empty(width, y.dtype)
    zeros_at, spare_at = address(zeros, 0), address(spare, 0)
    inputs, outputs = np.empty(36, np.int64), np.empty(16, np.int64)
    rows = _GROUPS * SHORT_ROWS
    sources, targets = np.empty(9 * rows, np.int64), np.empty(rows, np.int64)
    packed = np.empty(9 * c * width, weight.dtype)
    for panel in range(first_panel, last_panel):
        column = panel * width
        for lane in range(width):
            for d in range(c):
                origin = (column + lane) * column_stride + d * channel_stride + first_tap
                for tap in range(9):
                    packed[(tap * c + d) * width + lane] = weight[origin + tap * tap_step]
        for tile in range(wild.size):
            if not wild[tile]:
                continue
            pixel_table(tile, tile_grid[1], tile_grid[2], 6, 4, pads[0], pads[1], x, zeros_at, inputs)
            pixel_table(tile, tile_grid[1], tile_grid[2], 4, 4, 0, 0, y, spare_at, outputs)
            for row in range(rows):
                pixel = min(row, 15)
                at = pixel // 4 * 6 + pixel % 4
                for tap in range(9):
                    sources[tap * rows + row] = inputs[at + tap // 3 * 6 + tap % 3]
                outside = (row > 15) | (outputs[pixel] == spare_at)
                targets[row] = spare_at if outside else outputs[pixel] + (channel + column) * y.itemsize
            for group in range(_GROUPS):
                multiply_and_finish_short_2(
                    *(sources, group * SHORT_ROWS, rows, 9, c, packed, 0, bias, column),
                    *(targets, group * SHORT_ROWS, 0, width, finish, 0, 0),
                )
    keep_alive(zeros)
    keep_alive(spare)


@kernel
def any_wild(wild):
    """Whether some tile is."""
    found = False
    for tile in range(wild.size):
        found |= wild[tile] != 0
    return found


@kernel
def mend(wild, tile_grid, weight, layout, x, bias, pads, target, width, n_threads):
    """Compute the wild tiles of an output, and finish them.

    Args:
        wild: uint8 (tiles,).
        tile_grid: images, tiles down and across.
        weight: 1-D.
        layout: of the weights; see ``Layout``.
        x: (N, H, W, C).
        bias: (K,).
        pads: above and left of the pixels.
        target: (N, P, Q, channels), the first channel to be written, and the finish.
        width: of a panel of columns.
        n_threads: that may be used.
    """
    if any_wild(wild):
        parallel_for(
            _mend_task,
            n_threads,
            n_threads,
            (n_threads, wild, tile_grid, weight, layout, x, bias, pads, target, width),
        )


@kernel
def clear_points(points, start, point_stride, count):
    """Zero ``count`` channels of a tile, at each point."""
    for point in range(POINTS):
        at = start + point * point_stride
        for i in range(at, at + count):
            points[i] = 0


@kernel
def _mend_gradient_task(task, n_tasks, wild, tile_grid, x, dy, pads, gradient):
    c, k = x.shape[3], dy.shape[3]
    zeros = np.zeros(max(c, k), x.dtype)
    zeros_at = address(zeros, 0)
    inputs, outputs = np.empty(36, np.int64), np.empty(16, np.int64)
    sums = np.empty(9 * c, x.dtype)
    first, last = k * task // n_tasks, k * (task + 1) // n_tasks
    for tile in range(wild.size):
        if not wild[tile]:
            continue
        pixel_table(tile, tile_grid[1], tile_grid[2], 6, 4, pads[0], pads[1], x, zeros_at, inputs)
        pixel_table(tile, tile_grid[1], tile_grid[2], 4, 4, 0, 0, dy, zeros_at, outputs)
        for row in range(first, last):
            sums[:] = 0
            for pixel in range(16):
                if outputs[pixel] == zeros_at:
                    continue
                factor = array_at(outputs[pixel], np.int64(0), k, zeros[0])[row]
                at = pixel // 4 * 6 + pixel % 4
                for tap in range(9):
                    seen = array_at(inputs[at + tap // 3 * 6 + tap % 3], np.int64(0), c, zeros[0])
                    for channel in range(c):
                        sums[tap * c + channel] += factor * seen[channel]
            for channel in range(c):
                for tap in range(9):
                    gradient[(row * c + channel) * 9 + tap] += sums[tap * c + channel]
    keep_alive(zeros)


@kernel
def mend_gradient(wild, tile_grid, x, dy, pads, gradient, n_threads):
    """Add what wild tiles contribute to a gradient (K, C, 3, 3), 1-D; of ``mend``'s other arguments."""
    if any_wild(wild):
        parallel_for(
            _mend_gradient_task, n_threads, n_threads, (n_threads, wild, tile_grid, x, dy, pads, gradient)
        )
