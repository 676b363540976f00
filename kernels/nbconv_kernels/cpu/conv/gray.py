"""The weight gradient of a first layer that sees gray images: one input channel, few filters.

    dW[k, r, s] = sum over images and pixels of dy[pixel, k] * x[pixel under tap (r, s)]

As a matrix product its columns are the taps of a kernel row, which leave most lanes of every vector idle. But
with one channel, neighbouring pixels of x are neighbours in memory: so the lanes are pixels here. Each
image's dy is first turned, so that the pixels of a channel lie side by side. Then five taps and three filters
at a time are summed over all rows, fifteen vectors in registers. The lanes are added up at the end.

Limit: fused multiply-adds, at the part of a vector that a row of pixels fills; turning dy costs a third of
that.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv import gray_forward
from nbconv_kernels.cpu.conv.direct import backward_input
from nbconv_kernels.cpu.conv.gray_forward import forward
from nbconv_kernels.cpu.conv.tap_products import FILTERS, TAPS, add_products
from nbconv_kernels.cpu.conv.turning import CHANNELS, read_pixels
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, empty
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.vector import lanes
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["backward_input", "backward_weight", "forward", "suits"]


def suits(g: Conv2dGeometry, itemsize: int, weight_gradient: bool = False) -> bool:
    """Whether there is one input channel, and too few filters to fill a vector, or half of one."""
    if not weight_gradient:
        return gray_forward.suits(g, itemsize)
    plain = g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
    return plain and g.c == 1 and g.k <= SIMD.lanes(itemsize) and g.q * 2 >= SIMD.lanes(itemsize) and g.p > 0


@kernel
def _weights_task(task, n_tasks, dy, x, sizes, pads, sums):
    n, h, w, p_size, q_size, k, r_size, s_size = sizes
    top, left = pads
    step = lanes(x)
    filters = (k + FILTERS - 1) // FILTERS * FILTERS
    taps = (r_size * s_size + TAPS - 1) // TAPS * TAPS
    pitch_x, pitch_y = q_size + s_size - 1, (q_size + step - 1) // step * step
    plane = p_size * pitch_y
    padded = np.zeros((p_size + r_size - 1) * pitch_x, x.dtype)
    planes = np.zeros(filters * plane, x.dtype)
    steps = np.empty(taps, np.int64)
    for tap in range(r_size * s_size, taps):
        steps[tap] = 0  # those of no tap repeat the first: their sums are dropped
    for r in range(r_size):
        for s in range(s_size):
            steps[r * s_size + s] = r * pitch_x + s
    own = sums[task * filters * taps * step : (task + 1) * filters * taps * step]
    for i in range(own.size):
        own[i] = 0
    for image in range(n * task // n_tasks, n * (task + 1) // n_tasks):
        for row in range(min(h, p_size + r_size - 1 - top)):
            source = x[(image * h + row) * w : (image * h + row + 1) * w]
            target = padded[(top + row) * pitch_x + left : (top + row + 1) * pitch_x]
            for i in range(min(source.size, target.size)):
                target[i] = source[i]
        for row in range(p_size):
            for q in range(0, q_size, step):
                for channel in range(0, k, CHANNELS):
                    read_pixels(
                        *(dy, ((image * p_size + row) * q_size + q) * k + channel, k),
                        *(min(CHANNELS, k - channel), min(step, q_size - q)),
                        *(planes, channel * plane + row * pitch_y + q, plane),
                    )
        for first in range(0, filters, FILTERS):
            for tap in range(0, taps, TAPS):
                add_products(
                    *(padded, steps, tap, planes, first * plane, plane, p_size, q_size, pitch_x, pitch_y),
                    *(own, (first * taps + tap) * step, taps * step),
                )


@kernel
def _weights(dy, x, sizes, pads, sums, n_tasks, n_threads):
    parallel_for(_weights_task, n_tasks, n_threads, (n_tasks, dy, x, sizes, pads, sums))


@np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning
def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (N, H, W, 1) -> (K, 1, R, S)."""
    n_tasks = max(1, min(get_num_threads(), g.n))
    filters, taps = -(-g.k // FILTERS) * FILTERS, -(-g.r * g.s // TAPS) * TAPS
    sums = empty((n_tasks, filters, taps, SIMD.lanes(x.itemsize)), x.dtype)
    sizes = (g.n, g.h, g.w, g.p, g.q, g.k, g.r, g.s)
    pads = (g.pad_top, g.pad_left)
    threads = min(n_tasks, get_num_threads())
    _weights(dy.reshape(-1), x.reshape(-1), sizes, pads, sums.reshape(-1), n_tasks, threads)
    total = sums[:, : g.k, : g.r * g.s].sum(axis=(0, 3), dtype=np.float64)
    return total.astype(x.dtype).reshape(g.k, 1, g.r, g.s)
