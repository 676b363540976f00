"""A convolution of gray images row by row, with the activation and the maximum pool behind it.

    y[p, q, k] = max(low, min(high, bias[k] + sum over taps (r, s) of w[k, r, s] * x[p + r, q + s]))

A product whose columns are a first layer's few filters leaves most lanes of every vector idle. Neighbouring
pixels of one channel are neighbours in memory, so the lanes are pixels here: the micro-kernel that sums over
a table of steps takes the taps for the steps, and filters for its rows. A row of the output, or two that are
pooled, is finished as planes of pixels and then turned to channels last. The maximum comes before bias and
bounds, which is the same: rounding keeps the order of numbers.

Limit: fused multiply-adds, at the part of the vectors that a row of pixels fills; without a pool, turning the
rows costs about as much.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.microkernel import SHORT_ROWS, VECTORS, multiply_short_reduce_2
from nbconv_kernels.cpu.movement import address
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.vector import (
    beats,
    choose,
    fill,
    firsts,
    lanes,
    larger,
    load,
    plus,
    seconds,
    smaller,
    store,
    transpose_square,
)
from nbconv_kernels.geometry import Conv2dGeometry, Pool2dGeometry

MOST_TAPS = 64


def suits(g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether there is one input channel, and a row of pixels fills half a vector."""
    plain = g.c == g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
    return plain and g.p > 0 and g.q * 2 >= SIMD.lanes(itemsize) and g.r * g.s <= MOST_TAPS


def pools(g: Pool2dGeometry) -> bool:
    """Whether a maximum pool behind the convolution is of the kind that is computed with it."""
    plain = g.dilation_h == g.dilation_w == 1 and g.pad_top == g.pad_left == 0
    return plain and (g.r, g.s, g.stride_h, g.stride_w) == (2, 2, 2, 2) and 2 * g.p <= g.h and 2 * g.q <= g.w


def filters(weight: Array) -> Array:
    """Weights (K, 1, R, S) in the order they are read: groups of filters, taps, filters of a group."""
    k, taps = len(weight), weight[0].size
    groups = np.zeros((-(-k // SHORT_ROWS), SHORT_ROWS, taps), weight.dtype)
    groups.reshape(-1, taps)[:k] = weight.reshape(k, taps)
    return groups.transpose(0, 2, 1).reshape(-1)


def scratch_size(g: Conv2dGeometry, itemsize: int) -> int:
    """Elements of memory that :func:`convolve_image` needs."""
    across, pitch = _pitches(g.q, g.s, SIMD.lanes(itemsize))
    k = -(-g.k // SHORT_ROWS) * SHORT_ROWS
    return (g.p + g.r - 1) * pitch + 2 * k * across


@kernel
def _pitches(q_size, s_size, step):
    """Elements from one row to the next, of the output's planes and of the padded image."""
    across = (q_size + VECTORS * step - 1) // (VECTORS * step) * (VECTORS * step)
    return across, (across + s_size - 1 + step - 1) // step * step


@kernel
def _pad(x, at, h, w, pads, pitch, padded, rows):
    """The image with zeros around it."""
    step = lanes(x)
    zero = fill(x, x.dtype.type(0))
    for row in range(rows):
        y = row - pads[0]
        for first in range(0, pitch, step):
            store(padded, row * pitch + first, zero, step)
        if 0 <= y < h:
            for first in range(0, w, step):
                rest = min(w - first, pitch - pads[1] - first)
                store(padded, row * pitch + pads[1] + first, load(x, at + y * w + first, rest), rest)


@kernel
def _best(a, b):
    """The larger of each pair of lanes, and what is not a number."""
    return choose(beats(b, a), b, a)


@kernel
def convolve_image(x, at, sizes, pads, weight, bias, bounds, pooled, steps, memory, y, to):
    """One image from element ``at`` of ``x`` on, to the elements of ``y`` from ``to`` on.

    ``sizes`` are H, W, P, Q, K, R and S, of the convolution; ``steps`` has room for ``MOST_TAPS`` numbers.
    """
    h, w, p_size, q_size, k, r_size, s_size = sizes
    step = lanes(x)
    across, pitch = _pitches(q_size, s_size, step)
    rows = p_size + r_size - 1
    _pad(x, at, h, w, pads, pitch, memory, rows)
    planes = memory[rows * pitch :]
    for r in range(r_size):
        for s in range(s_size):
            steps[r * s_size + s] = address(memory, r * pitch + s)
    taps = r_size * s_size
    low, high = fill(x, x.dtype.type(bounds[0])), fill(x, x.dtype.type(bounds[1]))
    height = 2 if pooled else 1
    plane = height * across
    wide = q_size // height
    for p in range(p_size // height):
        for row in range(height):
            for first in range(0, q_size, VECTORS * step):
                for group in range(0, k, SHORT_ROWS):
                    multiply_short_reduce_2(
                        steps,
                        0,
                        taps,
                        (p * height + row) * pitch + first,
                        weight,
                        group * taps,
                        SHORT_ROWS,
                        planes,
                        group * plane + row * across + first,
                        plane,
                        False,
                        steps[0],
                        0,
                    )
        for channel in range(k):
            start = fill(x, bias[channel])
            for first in range(0, wide, step):
                one = channel * plane + first * height
                best = load(planes, one, step)
                if pooled:
                    two = one + across
                    best = _best(best, load(planes, two, step))
                    right = _best(load(planes, one + step, step), load(planes, two + step, step))
                    best = _best(firsts(best, right), seconds(best, right))
                store(planes, channel * plane + first, smaller(high, larger(low, plus(best, start))), step)
        for first in range(0, wide, step):
            for channel in range(0, k, step):
                transpose_square(
                    planes,
                    channel * plane + first,
                    plane,
                    y,
                    to + (p * wide + first) * k + channel,
                    k,
                    min(step, k - channel),
                    min(step, wide - first),
                )
