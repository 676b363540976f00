"""Convolution, its input gradient and its weight gradient as matrix products over pixels read in place.

Where a kernel row's pixels lie together in memory (no dilation along the row), one tap can span the whole
row, with ``kernel width * channels`` contiguous elements: fewer, longer taps. If the row is padded that takes
a padded copy of the input, which pays only for the few channels of a first layer (``_MERGE_CHANNELS``), whose
taps would be too short to keep the multipliers busy. Such an image often comes as planes, (C, H, W) in
memory; the same copy then puts its channels side by side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from nbconv_kernels.cpu.conv import narrow
from nbconv_kernels.cpu.conv.implicit_gemm import Product, multiply
from nbconv_kernels.cpu.conv.packing import pack, panel_width, places_by_tap, places_in_order
from nbconv_kernels.cpu.conv.reduction_tables import Reduction
from nbconv_kernels.cpu.conv.target import Kept, Target, target_of
from nbconv_kernels.cpu.conv.weight_gradient import reduce
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, aligned_empty, empty, scratch
from nbconv_kernels.geometry import Conv2dGeometry

_MERGE_CHANNELS = 16


def forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    g: Conv2dGeometry,
    target: Target | None = None,
    kept: Kept | None = None,
) -> Array:
    """(N, H, W, C) of any strides, (K, C / groups, R, S), (K,) -> (N, K, P, Q) in channels-last memory."""
    y, channel, finish = target_of(target, g, x.dtype)
    x, across = _source(x, g)
    used = taps(g, across)
    if kept is None:
        weight = np.ascontiguousarray(weight).reshape(-1)
    else:
        ready = prepared(weight, bias, g, kept)
    for group in range(g.groups):
        # Without a place to keep them, the panels of one group after the other go to the same memory.
        panels, start = _packed_group(weight, bias, g, group) if kept is None else ready[group]
        own = product(g, group, across, x.shape[2], y.shape[3], channel)
        multiply(own, used, x, panels, start, y, finish=finish)
    return y.transpose(0, 3, 1, 2)


def product(
    g: Conv2dGeometry, group: int, across: int, source_width: int, channels: int, channel: int
) -> Product:
    """The product of a group, where a tap spans so many kernel columns, and ``channels`` are those of y."""
    c, k = g.c // g.groups, g.k // g.groups
    return Product(
        *(g.n, g.p, g.q),
        *(g.h, source_width, g.c, group * c, across * c),
        *(g.stride_h, g.stride_w),
        *(g.p, g.q, channels, channel + group * k, k),
    )


def prepared(weight: Array, bias: Array | None, g: Conv2dGeometry, kept: Kept) -> list[tuple[Array, Array]]:
    """The panels and the bias of each group, from ``kept`` if they are there."""
    if "direct" not in kept:
        flat = np.ascontiguousarray(weight).reshape(-1)
        packed = (_packed_group(flat, bias, g, group) for group in range(g.groups))
        kept["direct"] = [(_copied(panels), start) for panels, start in packed]
    ready: list[tuple[Array, Array]] = kept["direct"]
    return ready


def _packed_group(weight: Array, bias: Array | None, g: Conv2dGeometry, group: int) -> tuple[Array, Array]:
    """The panels, in scratch memory, and the bias of a group."""
    c, k, positions = g.c // g.groups, g.k // g.groups, g.r * g.s
    places = places_by_tap(positions, c, panel_width(weight.itemsize))
    panels = pack("weights", weight, group * k * c * positions, (c * positions, 0), k, 1, places, 0)
    return panels, padded_bias(bias, group * k, k, weight.dtype)


def _copied(panels: Array) -> Array:
    own = aligned_empty(panels.size, panels.dtype)
    own[:] = panels
    return own


def backward_input(dy: Array, weight: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (K, C / groups, R, S) -> (N, C, H, W) in channels-last memory.

    Input pixel h meets output row (h + pad - r * dilation) / stride for the kernel rows r where that divides.
    The pixels of one phase (h mod stride) share their kernel rows, so each phase is a product of its own.
    """
    if narrow.suits(g, dy.itemsize):
        return narrow.backward_input(dy, weight, g)
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    weight = np.ascontiguousarray(weight).reshape(-1)
    c, k, positions = g.c // g.groups, g.k // g.groups, g.r * g.s
    order, phases = _phases(g)
    width = panel_width(dy.itemsize)
    places = places_in_order(order, k, width)
    bias = padded_bias(None, 0, c, dy.dtype)
    for group in range(g.groups):
        start = group * k * c * positions
        panels = pack("weights", weight, start, (positions, c * positions), c, k, places, width)
        for phase_y, phase_x, first, taps in phases:
            product = Product(
                *(g.n, len(range(phase_y, g.h, g.stride_h)), len(range(phase_x, g.w, g.stride_w))),
                *(g.p, g.q, g.k, group * k, k),
                *(1, 1),
                *(g.h, g.w, g.c, group * c, c),
                *(g.stride_h, g.stride_w, phase_y, phase_x),
            )
            multiply(product, taps, dy, panels, bias, dx, first, positions)
    return dx.transpose(0, 3, 1, 2)


def backward_weight(dy: Array, x: Array, g: Conv2dGeometry) -> Array:
    """(N, P, Q, K), (N, H, W, C) of any strides -> (K, C / groups, R, S)."""
    gradient = np.empty((g.k, g.c // g.groups, g.r, g.s), x.dtype)
    x, across = _source(x, g)
    used = taps(g, across)
    c, k = g.c // g.groups, g.k // g.groups
    for group in range(g.groups):
        reduction = Reduction(
            *(g.n, g.p, g.q, g.k, group * k, k),
            *(g.h, x.shape[2], g.c, group * c),
            *(g.stride_h, g.stride_w, across * c),
        )
        own = gradient[group * k : (group + 1) * k].reshape(-1)
        reduce(reduction, used, dy.reshape(-1), x.reshape(-1), across, own)
    return gradient


def padded_bias(bias: Array | None, first: int, columns: int, dtype: np.dtype[Any]) -> Array:
    """A group's bias in whole panels, zero where there is none."""
    width = panel_width(dtype.itemsize)
    padded = np.zeros(-(-columns // width) * width, dtype)
    if bias is not None:
        padded[:columns] = bias[first : first + columns]
    return padded


def merges_columns(g: Conv2dGeometry) -> bool:
    """Whether one tap spans a row of the kernel."""
    padded = g.pad_left > 0 or g.pad_right > 0
    return g.groups == g.dilation_w == 1 < g.s and not (padded and g.c > _MERGE_CHANNELS)


def _source(x: Array, g: Conv2dGeometry) -> tuple[Array, int]:
    """The pixels to read, in memory order and with their padding, and how many kernel columns a tap spans."""
    padded = g.pad_left > 0 or g.pad_right > 0
    if not merges_columns(g):
        return np.ascontiguousarray(x), 1
    planes = x.transpose(0, 3, 1, 2)
    is_in_planes = planes.flags.c_contiguous and 1 < g.c <= _MERGE_CHANNELS
    if not is_in_planes:
        x = np.ascontiguousarray(x)
        if not padded:
            return x, g.s
    wide = (g.n, g.h, g.w + g.pad_left + g.pad_right, g.c)
    copy = scratch("padded input", wide[0] * wide[1] * wide[2] * wide[3], x.dtype).reshape(wide)
    if is_in_planes:
        _pad_planes(planes.reshape(-1), g.pad_left, g.w, copy, get_num_threads())
    else:
        _pad_columns(x, g.pad_left, copy, get_num_threads())
    return copy, g.s


@kernel
def _pad_columns_task(task, n_tasks, x, left, out):
    n, h, w, c = x.shape
    wide = out.shape[2] * c
    source, target = x.reshape(n * h, w * c), out.reshape(n * h, wide)
    for line in range(n * h * task // n_tasks, n * h * (task + 1) // n_tasks):
        target[line, : left * c] = 0
        for i in range(w * c):
            target[line, left * c + i] = source[line, i]
        target[line, (left + w) * c :] = 0


@kernel
def _pad_columns(x, left, out, n_tasks):
    parallel_for(_pad_columns_task, n_tasks, n_tasks, (n_tasks, x, left, out))


@kernel
def _pad_planes_task(task, n_tasks, x, left, w, out):
    n, h, wide, c = out.shape
    target = out.reshape(n * h, wide * c)
    for line in range(n * h * task // n_tasks, n * h * (task + 1) // n_tasks):
        image = line // h
        source = (image * (c - 1) * h + line) * w
        target[line, : left * c] = 0
        for channel in range(c):
            row = x[source + channel * h * w : source + channel * h * w + w]
            for i in range(w):
                target[line, left * c + channel + i * c] = row[i]
        target[line, (left + w) * c :] = 0


@kernel
def _pad_planes(x, left, w, out, n_tasks):
    parallel_for(_pad_planes_task, n_tasks, n_tasks, (n_tasks, x, left, w, out))


@lru_cache(maxsize=1024)
def taps(g: Conv2dGeometry, across: int) -> Array:
    """int64 (taps, 2): what each tap adds to a pixel's y and x."""
    rows = [r * g.dilation_h - g.pad_top for r in range(g.r)]
    columns = [0] if across > 1 else [s * g.dilation_w - g.pad_left for s in range(g.s)]
    return np.array([(y, x) for y in rows for x in columns], np.int64)


@lru_cache(maxsize=1024)
def _phases(g: Conv2dGeometry) -> tuple[tuple[int, ...], list[tuple[int, int, int, Array]]]:
    """The taps sorted by phase, and the phases: (y, x, first tap, what each tap adds to a pixel)."""
    order: list[int] = []
    phases = []
    for phase_y in range(g.stride_h):
        for phase_x in range(g.stride_w):
            first, taps = len(order), []
            for r in range(g.r):
                for s in range(g.s):
                    y = phase_y + g.pad_top - r * g.dilation_h
                    x = phase_x + g.pad_left - s * g.dilation_w
                    if y % g.stride_h == 0 and x % g.stride_w == 0:
                        order.append(r * g.s + s)
                        taps.append((y // g.stride_h, x // g.stride_w))
            phases.append((phase_y, phase_x, first, np.array(taps, np.int64).reshape(-1, 2)))
    return tuple(order), phases
