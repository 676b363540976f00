"""Convolution, its input gradient and its weight gradient as matrix products over pixels read in place.

Where a kernel row's pixels lie together in memory (no dilation along the row), one tap can span the whole row, with
``kernel width * channels`` contiguous elements: fewer, longer taps. If the row is padded that takes a padded copy of
the input, which pays only for the few channels of a first layer (``_MERGE_CHANNELS``), whose taps would be too short
to keep the multipliers busy.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nbconv_kernels.cpu.conv.implicit_gemm import Product, multiply
from nbconv_kernels.cpu.conv.packing import pack, panel_width
from nbconv_kernels.cpu.conv.weight_gradient import Reduction, reduce
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.geometry import Conv2dGeometry

_MERGE_CHANNELS = 16


def forward(x: Array, weight: Array, bias: Array | None, g: Conv2dGeometry) -> Array:
    """(N, H, W, C), (K, C / groups, R, S), (K,) -> (N, K, P, Q) in channels-last memory."""
    y = np.empty((g.n, g.p, g.q, g.k), x.dtype)
    weight = np.ascontiguousarray(weight).reshape(-1)
    x, taps, across, left = _source(x, g)
    order = _order(g)
    c, k = g.c // g.groups, g.k // g.groups
    for group in range(g.groups):
        panels = pack(weight, group * k * c * g.r * g.s, (c * g.r * g.s, g.r * g.s), k, c, order)
        product = Product(
            *(g.n, g.p, g.q),
            *(g.h, x.shape[2], g.c, group * c, across * c),
            *(g.stride_h, g.stride_w),
            *(g.p, g.q, g.k, group * k, k),
            *(1, 1, 0, 0),
        )
        multiply(product, taps, x, panels, _padded_bias(bias, group * k, k, x.dtype), y)
    return y.transpose(0, 3, 1, 2)


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (K, C / groups, R, S) -> (N, C, H, W) in channels-last memory.

    Input pixel h meets output row (h + pad - r * dilation) / stride for the kernel rows r where that divides. The
    pixels of one phase (h mod stride) share their kernel rows, so each phase is a product of its own.
    """
    dx = np.empty((g.n, g.h, g.w, g.c), dy.dtype)
    weight = np.ascontiguousarray(weight).reshape(-1)
    c, k = g.c // g.groups, g.k // g.groups
    order, phases = _phases(g)
    bias = _padded_bias(None, 0, c, dy.dtype)
    for group in range(g.groups):
        panels = pack(weight, group * k * c * g.r * g.s, (g.r * g.s, c * g.r * g.s), c, k, order)
        for phase_y, phase_x, first, taps in phases:
            product = Product(
                *(g.n, len(range(phase_y, g.h, g.stride_h)), len(range(phase_x, g.w, g.stride_w))),
                *(g.p, g.q, g.k, group * k, k),
                *(1, 1),
                *(g.h, g.w, g.c, group * c, c),
                *(g.stride_h, g.stride_w, phase_y, phase_x),
            )
            multiply(product, taps, dy, panels, bias, dx, first, len(order))
    return dx.transpose(0, 3, 1, 2)


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (N, H, W, C) -> (K, C / groups, R, S)."""
    gradient = np.zeros((g.k, g.c // g.groups, g.r, g.s), x.dtype)
    x, taps, across, left = _source(x, g)
    c, k = g.c // g.groups, g.k // g.groups
    for group in range(g.groups):
        reduction = Reduction(
            *(g.n, g.p, g.q, g.k, group * k, k),
            *(g.h, x.shape[2], g.c, group * c),
            *(g.stride_h, g.stride_w, across * c),
        )
        own = gradient[group * k : (group + 1) * k].reshape(-1)
        reduce(reduction, taps, dy, x, across, own)
    return gradient


def _source(x: Array, g: Conv2dGeometry) -> tuple[Array, Array, int, int]:
    """The pixels to read, what each tap adds to a pixel's (y, x), the kernel columns a tap spans."""
    padded = g.pad_left > 0 or g.pad_right > 0
    across = 1
    if g.groups == 1 and g.dilation_w == 1 and g.s > 1 and (not padded or g.c <= _MERGE_CHANNELS):
        across = g.s
        if padded:
            x = np.pad(x, ((0, 0), (0, 0), (g.pad_left, g.pad_right), (0, 0)))
    return x, _taps(g, across), across, 0


@lru_cache(maxsize=1024)
def _taps(g: Conv2dGeometry, across: int) -> Array:
    rows = [r * g.dilation_h - g.pad_top for r in range(g.r)]
    columns = [0] if across > 1 else [s * g.dilation_w - g.pad_left for s in range(g.s)]
    return np.array([(y, x) for y in rows for x in columns], np.int64)


@lru_cache(maxsize=1024)
def _order(g: Conv2dGeometry) -> Array:
    return np.arange(g.r * g.s, dtype=np.int64)


@lru_cache(maxsize=1024)
def _phases(g: Conv2dGeometry) -> tuple[Array, list[tuple[int, int, int, Array]]]:
    """The taps sorted by phase, and for each phase (y, x, first tap, what each tap adds to a pixel's y and x)."""
    order: list[int] = []
    phases = []
    for phase_y in range(min(g.stride_h, g.h)):
        for phase_x in range(min(g.stride_w, g.w)):
            first, taps = len(order), []
            for r in range(g.r):
                for s in range(g.s):
                    y = phase_y + g.pad_top - r * g.dilation_h
                    x = phase_x + g.pad_left - s * g.dilation_w
                    if y % g.stride_h == 0 and x % g.stride_w == 0:
                        order.append(r * g.s + s)
                        taps.append((y // g.stride_h, x // g.stride_w))
            phases.append((phase_y, phase_x, first, np.array(taps, np.int64).reshape(-1, 2)))
    # The weights of taps that no phase reaches (an input smaller than the stride) are packed and never read.
    return np.array(order, np.int64), phases


def _padded_bias(bias: Array | None, first: int, columns: int, dtype: np.dtype) -> Array:  # type: ignore[type-arg]
    width = panel_width(dtype.itemsize)
    padded = np.zeros(-(-columns // width) * width, dtype)
    if bias is not None:
        padded[:columns] = bias[first : first + columns]
    return padded
