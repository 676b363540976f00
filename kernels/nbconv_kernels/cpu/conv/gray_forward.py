"""The forward pass of a first layer that sees gray images: one input channel, few filters.

    y[p, q, k] = bias[k] + sum over r, s of w[k, r, s] * x[p + r, q + s]

As a product whose columns are the filters it would leave most lanes of every vector idle. With one channel,
neighbouring pixels are neighbours in memory, so the lanes are pixels: the micro-kernel that sums over a table
of steps has taps for its steps and filters for its rows. A padded copy of the image makes all its rows one,
which whole vectors go along; what they compute between two rows is dropped. Some rows of the output at a time
stay in the cache as planes, to which the bias is added while they are turned channels last.

Limit: fused multiply-adds, at ``width of the output / width of the padded image`` of the lanes.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv import direct
from nbconv_kernels.cpu.conv.target import Kept, Target, target_of
from nbconv_kernels.cpu.conv.turning import CHANNELS, write_pixels
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.microkernel import FEW_ROWS, MANY_VECTORS, multiply_few_reduce
from nbconv_kernels.cpu.movement import address, keep_alive
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.vector import lanes
from nbconv_kernels.geometry import Conv2dGeometry

_PLANES = 6144  # elements of all planes, about: with the image they fit into an L1 cache
_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves


def suits(g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether there is one input channel, and filters that would fill at most half a vector."""
    plain = g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
    return plain and g.c == 1 and g.k * 2 <= SIMD.lanes(itemsize) and g.k <= CHANNELS and g.q > 0


@kernel
def _image_task(task, n_tasks, x, weight, bias, bounds, sizes, pads, y):
    n, h, w, p_size, q_size, k, r_size, s_size = sizes
    top, left = pads
    step = lanes(x)
    wide, pitch, taps = MANY_VECTORS * step, q_size + s_size - 1, r_size * s_size
    groups = (k + FEW_ROWS - 1) // FEW_ROWS
    block = min(p_size, max(1, _PLANES // (groups * FEW_ROWS * pitch)))
    span = (block * pitch + wide - 1) // wide * wide
    padded = np.zeros((p_size + r_size - 1) * pitch + s_size + wide, x.dtype)
    planes = np.empty(max(groups * FEW_ROWS, CHANNELS) * span, x.dtype)
    steps = np.empty(taps, np.int64)
    for r in range(r_size):
        for s in range(s_size):
            steps[r * s_size + s] = address(padded, r * pitch + s)
    last = n * (task + 1) // n_tasks
    for image in range(n * task // n_tasks, last):
        for row in range(min(h, p_size + r_size - 1 - top)):
            source = x[(image * h + row) * w : (image * h + row + 1) * w]
            target = padded[(top + row) * pitch + left : (top + row + 1) * pitch]
            for i in range(min(source.size, target.size)):
                target[i] = source[i]
        for first in range(0, p_size, block):
            rows = min(block, p_size - first)
            for at in range(0, rows * pitch, wide):
                for group in range(groups):
                    multiply_few_reduce(
                        *(steps, 0, taps, first * pitch + at, weight, group * taps * FEW_ROWS, FEW_ROWS),
                        *(planes, group * FEW_ROWS * span + at, span, False, steps[0], 0),
                    )
            for row in range(rows):
                for q in range(0, q_size, step):
                    to = ((image * p_size + first + row) * q_size + q) * k
                    room = last * p_size * q_size * k - to
                    count = min(step, q_size - q)
                    write_pixels(planes, row * pitch + q, span, bias, bounds, y, to, k, count, room)
    keep_alive(padded)


@kernel
def _images(x, weight, bias, bounds, sizes, pads, y, n_tasks):
    parallel_for(_image_task, n_tasks, n_tasks, (n_tasks, x, weight, bias, bounds, sizes, pads, y))


def forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    g: Conv2dGeometry,
    target: Target | None = None,
    kept: Kept | None = None,
) -> Array:
    """(N, H, W, 1), (K, 1, R, S), (K,) -> (N, K, P, Q) in channels-last memory."""
    y, _, (kind, *bounds) = target_of(target, g, x.dtype)
    if kind > 1 or y.shape[3] != g.k:  # to be added, or to go between other channels
        return direct.forward(x, weight, bias, g, target, kept)
    taps = g.r * g.s
    groups = np.zeros((-(-g.k // FEW_ROWS), FEW_ROWS, taps), x.dtype)
    groups.reshape(-1, taps)[: g.k] = weight.reshape(g.k, taps)
    start = np.zeros(CHANNELS, x.dtype)
    if bias is not None:
        start[: g.k] = bias
    sizes = (g.n, g.h, g.w, g.p, g.q, g.k, g.r, g.s)
    threads = min(get_num_threads(), g.n) if g.n * g.p * g.q * g.k * taps > _SMALL else 1
    _images(
        *(x.reshape(-1), groups.transpose(0, 2, 1).reshape(-1), start, tuple(map(x.dtype.type, bounds))),
        *(sizes, (g.pad_top, g.pad_left), y.reshape(-1), threads),
    )
    return y.transpose(0, 3, 1, 2)
