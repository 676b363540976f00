"""The input gradient for few input channels, as after the first layer's image.

The columns of the input-gradient product are input channels; three of them would leave most lanes of every
vector idle. Here the product is turned: its columns are (kernel column, channel), which fill the vectors. For
a row of the gradient of the input, over the kernel rows r that reach it and the output channels k,

    z[q, (s, c)] = sum over r, k of dy[row under r, q, k] * w[k, c, r, s]

is added to the pixels that the window q covers, which lie side by side in memory. The rows of a tile are rows
of images, at the same place in as many images as possible: so they share their kernel rows, and at an image's
edge few multiplications are by zero. All windows q are added, one after the other, to lines in the L1 cache;
between two that overlap lie thousands of cycles. Tiles are dealt to the tasks in turn, and every line is one
task's, so the result does not depend on how they are dealt.

Limit: fused multiply-adds, at ``lanes used / lanes`` of the columns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nbconv_kernels.cpu.conv.packing import pack, panel_width
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, empty
from nbconv_kernels.cpu.microkernel import ROWS, VECTORS, multiply_and_finish_1, multiply_and_finish_2
from nbconv_kernels.cpu.movement import address, keep_alive
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.geometry import Conv2dGeometry

_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves
_ADDING = (np.int64(2), -np.inf, np.inf)


def suits(g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether the input's channels would fill at most half a vector, and a window's row is one piece."""
    return g.groups == 1 and g.c * 2 <= SIMD.lanes(itemsize) and g.r * g.s > 1 and g.dilation_w == 1


@kernel
def _find_rows(first, count, images, steps, p_size, pitch, dy, zeros_at, inputs):
    """Find the rows of dy under the taps of ``count`` lines: the first tap that has any, and behind the last.

    Addresses go to ``inputs[tap * ROWS + line]``. ``steps`` are what taps add to the number of a line's row,
    ``pitch`` the elements of a row of dy.
    """
    base, low, high = address(dy, 0), steps.size, 0
    for tap in range(steps.size):
        for line in range(ROWS):
            y = (first + line) // images
            image = first + line - y * images
            p = y + steps[tap]
            inside = (line < count) & (p >= 0) & (p < p_size)
            where = base + (image * p_size + p) * pitch * dy.itemsize
            inputs[tap * ROWS + line] = where if inside else zeros_at
            if inside:
                low, high = min(low, tap), tap + 1
    return low, high


@kernel
def _narrow_task(task, n_tasks, dy, panels, sizes, phases, steps, width, dx):
    images, p_size, q_size, k, h, w, c, columns, stride_h, stride_w, pad_left = sizes
    n_panels = (columns + width - 1) // width
    pitch = max((q_size - 1) * stride_w * c + columns, (pad_left + w) * c)
    lines = np.empty(ROWS * pitch, dy.dtype)
    zeros = np.zeros(max(k, n_panels * width), dy.dtype)
    zeros_at = address(zeros, 0)
    inputs = np.empty(steps.size * ROWS, np.int64)
    outputs = np.empty(ROWS, np.int64)
    for line in range(ROWS):
        outputs[line] = address(lines, line * pitch)
    for phase in range(stride_h):
        taps = steps[phases[phase] : phases[phase + 1]]
        n_lines = images * ((h - phase + stride_h - 1) // stride_h)
        for first in range(task * ROWS, n_lines, n_tasks * ROWS):
            count = min(ROWS, n_lines - first)
            low, high = _find_rows(first, count, images, taps, p_size, q_size * k, dy, zeros_at, inputs)
            for i in range(lines.size):
                lines[i] = 0
            for q in range(q_size if low < high else 0):
                for panel in range(n_panels):
                    column = q * stride_w * c + panel * width
                    left = columns - panel * width
                    at = (panel * steps.size + phases[phase] + low) * k * width
                    if left > width // VECTORS:
                        multiply_and_finish_2(
                            *(inputs, low * ROWS, ROWS, high - low, k, panels, at, zeros, 0),
                            *(outputs, 0, column, left, _ADDING, at, 0),
                        )
                    else:
                        multiply_and_finish_1(
                            *(inputs, low * ROWS, ROWS, high - low, k, panels, at, zeros, 0),
                            *(outputs, 0, column, left, _ADDING, at, 0),
                        )
                for i in range(low * ROWS, high * ROWS):
                    inputs[i] += 0 if inputs[i] == zeros_at else k * dy.itemsize
            for line in range(count):
                y = (first + line) // images
                image = first + line - y * images
                at = (image * h + y * stride_h + phase) * w * c
                source, target = lines[line * pitch + pad_left * c :], dx[at : at + w * c]
                for i in range(w * c):
                    target[i] = source[i]
    keep_alive(zeros)
    keep_alive(lines)


@kernel
def _narrow(dy, panels, sizes, phases, steps, width, dx, n_tasks):
    parallel_for(_narrow_task, n_tasks, n_tasks, (n_tasks, dy, panels, sizes, phases, steps, width, dx))


_ONE_PLACE = np.zeros(1, np.int64)


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (K, C, R, S) -> (N, C, H, W) in channels-last memory."""
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    order, phases, steps = _phases(g.r, g.stride_h, g.pad_top, g.dilation_h)
    width, columns = panel_width(dy.itemsize), g.s * g.c
    # Transposed so that the columns (s, c) of one k lie together; a first layer's weights are few.
    rows = np.ascontiguousarray(weight[:, :, order].transpose(2, 0, 3, 1)).reshape(-1)
    panels = pack("weights", rows, 0, (1, columns), columns, g.r * g.k, _ONE_PLACE, width)
    sizes = (g.n, g.p, g.q, g.k, g.h, g.w, g.c, columns, g.stride_h, g.stride_w, g.pad_left)
    threads = get_num_threads() if dy.size * columns * g.r > _SMALL else 1
    _narrow(dy.reshape(-1), panels, sizes, phases, steps, width, dx.reshape(-1), threads)
    return dx.transpose(0, 3, 1, 2)


@lru_cache(maxsize=1024)
def _phases(r_size: int, stride: int, pad: int, dilation: int) -> tuple[list[int], Array, Array]:
    """The kernel rows sorted by the phase of the stride they reach, where phases begin, and their steps.

    Row ``stride * y + phase`` of the input meets row ``y + step`` of the output.
    """
    order: list[int] = []
    steps: list[int] = []
    phases = [0]
    for phase in range(stride):
        for r in range(r_size):
            distance = phase + pad - r * dilation
            if distance % stride == 0:
                order.append(r)
                steps.append(distance // stride)
        phases.append(len(order))
    return order, np.array(phases, np.int64), np.array(steps, np.int64)
