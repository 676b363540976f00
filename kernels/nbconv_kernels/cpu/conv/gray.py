"""The weight gradient of a first layer that sees gray images: one input channel, few filters.

    dW[k, r, s] = sum over images and pixels of dy[pixel, k] * x[pixel under tap (r, s)]

As a matrix product its columns are the taps of a kernel row, which leave most lanes of every vector idle. But
with one channel, neighbouring pixels of x are neighbours in memory: so the lanes are pixels here. Each
image's dy is first turned, so that the pixels of a channel lie side by side. Then five taps and three filters
at a time are summed over all rows, fifteen vectors in registers. The lanes are added up at the end.

Limit: fused multiply-adds, at the part of a vector that a row of pixels fills; turning dy costs about as much
again.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.conv import gray_forward
from nbconv_kernels.cpu.conv.direct import backward_input
from nbconv_kernels.cpu.conv.gray_forward import forward
from nbconv_kernels.cpu.jit import get_num_threads, kernel, num_threads, parallel_for
from nbconv_kernels.cpu.memory import Array, empty
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.vector import lanes, load, plus, store, times, transpose_square
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["backward_input", "backward_weight", "forward", "suits"]

_FILTERS, _TAPS = 3, 5  # summed together


def suits(g: Conv2dGeometry, itemsize: int, weight_gradient: bool = False) -> bool:
    """Whether there is one input channel, and too few filters to fill a vector, or half of one."""
    if not weight_gradient:
        return gray_forward.suits(g, itemsize)
    plain = g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
    return plain and g.c == 1 and g.k <= SIMD.lanes(itemsize) and g.q * 2 >= SIMD.lanes(itemsize) and g.p > 0


@kernel
def _add_products(x, dy, sums, rows, across, pitch_x, pitch_y, channel, steps, first, at, stride):
    """Add one image's products of five taps and three filters; ``steps`` are the taps' places in ``x``."""
    step = lanes(x)
    s0, s1, s2 = steps[first], steps[first + 1], steps[first + 2]
    s3, s4 = steps[first + 3], steps[first + 4]
    b, c = at + stride, at + 2 * stride
    a0, a1, a2 = load(sums, at, step), load(sums, at + step, step), load(sums, at + 2 * step, step)
    a3, a4 = load(sums, at + 3 * step, step), load(sums, at + 4 * step, step)
    b0, b1, b2 = load(sums, b, step), load(sums, b + step, step), load(sums, b + 2 * step, step)
    b3, b4 = load(sums, b + 3 * step, step), load(sums, b + 4 * step, step)
    c0, c1, c2 = load(sums, c, step), load(sums, c + step, step), load(sums, c + 2 * step, step)
    c3, c4 = load(sums, c + 3 * step, step), load(sums, c + 4 * step, step)
    for row in range(rows):
        for q in range(0, across, step):
            # What lies beyond the row must not be looked at: it may be no number.
            rest, place, y = across - q, row * pitch_x + q, row * pitch_y + q
            x0, x1, x2 = load(x, place + s0, rest), load(x, place + s1, rest), load(x, place + s2, rest)
            x3, x4 = load(x, place + s3, rest), load(x, place + s4, rest)
            y0, y1 = load(dy, y, step), load(dy, y + channel, step)
            y2 = load(dy, y + 2 * channel, step)
            a0, a1, a2 = plus(a0, times(x0, y0)), plus(a1, times(x1, y0)), plus(a2, times(x2, y0))
            a3, a4 = plus(a3, times(x3, y0)), plus(a4, times(x4, y0))
            b0, b1, b2 = plus(b0, times(x0, y1)), plus(b1, times(x1, y1)), plus(b2, times(x2, y1))
            b3, b4 = plus(b3, times(x3, y1)), plus(b4, times(x4, y1))
            c0, c1, c2 = plus(c0, times(x0, y2)), plus(c1, times(x1, y2)), plus(c2, times(x2, y2))
            c3, c4 = plus(c3, times(x3, y2)), plus(c4, times(x4, y2))
    store(sums, at, a0, step)
    store(sums, at + step, a1, step)
    store(sums, at + 2 * step, a2, step)
    store(sums, at + 3 * step, a3, step)
    store(sums, at + 4 * step, a4, step)
    store(sums, b, b0, step)
    store(sums, b + step, b1, step)
    store(sums, b + 2 * step, b2, step)
    store(sums, b + 3 * step, b3, step)
    store(sums, b + 4 * step, b4, step)
    store(sums, c, c0, step)
    store(sums, c + step, c1, step)
    store(sums, c + 2 * step, c2, step)
    store(sums, c + 3 * step, c3, step)
    store(sums, c + 4 * step, c4, step)


@kernel
def _weights_task(task, n_tasks, dy, x, shape, window, pads, sums):
    n, p, q, k = shape
    r_size, s_size = window
    _, height, width = x.shape
    step = lanes(sums)
    filters = (k + _FILTERS - 1) // _FILTERS * _FILTERS
    taps = (r_size * s_size + _TAPS - 1) // _TAPS * _TAPS
    pitch_x, pitch_y = q + s_size - 1, (q + step - 1) // step * step
    padded = np.zeros((p + r_size - 1, pitch_x), x.dtype)
    top, left = pads
    bottom, right = min(height, padded.shape[0] - top), min(width, pitch_x - left)
    turned = np.zeros(filters * p * pitch_y, x.dtype)
    steps = np.zeros(taps, np.int64)  # those of no tap repeat the first: their sums are dropped
    for r in range(r_size):
        for s in range(s_size):
            steps[r * s_size + s] = r * pitch_x + s
    own = sums[task * filters * taps * step : (task + 1) * filters * taps * step]
    for i in range(own.size):
        own[i] = 0
    pixels = dy.reshape(-1)
    for image in range(n * task // n_tasks, n * (task + 1) // n_tasks):
        for row in range(bottom):
            target, source = padded[top + row, left:], x[image, row]
            for column in range(right):
                target[column] = source[column]
        for row in range(p):
            for first in range(0, q, step):
                at = ((image * p + row) * q + first) * k
                to = row * pitch_y + first
                transpose_square(pixels, at, k, turned, to, p * pitch_y, min(step, q - first), k)
        flat = padded.reshape(-1)
        for filter_ in range(0, filters, _FILTERS):
            channel = filter_ * p * pitch_y
            for tap in range(0, taps, _TAPS):
                at = (filter_ * taps + tap) * step
                _add_products(
                    flat,
                    turned[channel:],
                    own,
                    p,
                    q,
                    pitch_x,
                    pitch_y,
                    p * pitch_y,
                    steps,
                    tap,
                    at,
                    taps * step,
                )


@kernel
def _weights(dy, x, shape, window, pads, sums, n_tasks, n_threads):
    parallel_for(_weights_task, n_tasks, n_threads, (n_tasks, dy, x, shape, window, pads, sums))


@np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning
def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (N, H, W, 1) -> (K, 1, R, S)."""
    n_tasks = max(1, min(get_num_threads(), g.n))
    filters, taps = -(-g.k // _FILTERS) * _FILTERS, -(-g.r * g.s // _TAPS) * _TAPS
    sums = empty((n_tasks, filters, taps, SIMD.lanes(x.itemsize)), x.dtype)
    _weights(
        *(dy, x.reshape(g.n, g.h, g.w), (g.n, g.p, g.q, g.k), (g.r, g.s), (g.pad_top, g.pad_left)),
        *(sums.reshape(-1), n_tasks, min(n_tasks, num_threads())),
    )
    total = sums[:, : g.k, : g.r * g.s].sum(axis=(0, 3), dtype=np.float64)
    return total.astype(x.dtype).reshape(g.k, 1, g.r, g.s)
