"""Operands in the form that the matrix kernels read in 128-bit vectors.

Filters (out, in / groups, kh, kw) become (groups, taps, channels, filters) for a convolution and
(groups, taps, filters, channels) for its input gradient, the taps in the order in which they are asked for.
Channels and filters of a group are padded with zeros to multiples of four; pixels whose channels do not come
in fours, or lie askew in memory, are copied with such a padding.

Limit: memory bandwidth. In the filters' kernel a thread reads the taps of one (filter, channel), which lie
together, and neighbouring threads write neighbouring elements.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, address, empty, namespace, tables
from nbconv_kernels.cuda.target import cuda, f32s, float32, i32s, u32, uint32
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["fours", "pack_filters", "padded", "table"]

_BLOCK = 256
_ACROSS = 32  # threads along the packed rows; the block's other eight share what they read


def fours(count: int) -> int:
    """``count`` rounded up to a multiple of four."""
    return -(-count // 4) * 4


def _integers(values: tuple[tuple[int, ...], ...]) -> tuple[Array]:
    return (np.array(values, np.int32),)


def table(like: Array, values: tuple[tuple[int, ...], ...]) -> Array:
    """Integers where ``like`` is, uploaded once."""
    return tables(like, _integers, values)[0]


@kernel(block=_BLOCK)
def _pack(
    weight: f32s,
    packed: f32s,
    order: i32s,
    filters: u32,
    channels: u32,
    taps: u32,
    rows: u32,
    columns: u32,
    turned: u32,
):
    thread = uint32(cuda.threadIdx.x)
    across = uint32(uint32(cuda.blockIdx.x) * uint32(_ACROSS) + (thread & uint32(_ACROSS - 1)))
    down = uint32(uint32(cuda.blockIdx.y) * uint32(_BLOCK // _ACROSS) + thread // uint32(_ACROSS))
    group = uint32(cuda.blockIdx.z)
    if across < columns and down < rows:
        filter_, channel = (down, across) if turned != uint32(0) else (across, down)
        inside = filter_ < filters and channel < channels
        base = uint32(uint32(uint32(group * filters + filter_) * channels + channel) * taps)
        to = uint32(uint32(uint32(group * taps * rows) + down) * columns + across)
        for slot in range(taps):
            value = float32(0)
            if inside:
                value = weight[uint32(base + uint32(order[slot]))]
            packed[to] = value
            to = uint32(to + uint32(rows * columns))


def pack_filters(weight: Array, g: Conv2dGeometry, order: tuple[int, ...], turned: bool) -> Array:
    """Filters as (groups, taps, channels, filters), or (.., filters, channels) if ``turned``."""
    filters, channels, taps = g.k // g.groups, g.c // g.groups, g.r * g.s
    rows, columns = (filters, channels) if turned else (channels, filters)
    rows, columns = fours(rows), fours(columns)
    packed = empty(weight, (g.groups, taps, rows, columns))
    grid = (blocks(columns, _ACROSS), blocks(rows, _BLOCK // _ACROSS), g.groups)
    weight = namespace(weight).ascontiguousarray(weight)
    _pack[grid](weight, packed, table(weight, (order,)), filters, channels, taps, rows, columns, turned)
    return packed


@kernel(block=_BLOCK)
def _pad(x: f32s, y: f32s, size: u32, channels: u32, padded_channels: u32):
    i = thread_index()
    if i < size:
        pixel = uint32(i // padded_channels)
        channel = uint32(i - pixel * padded_channels)
        y[i] = x[uint32(pixel * channels + channel)] if channel < channels else float32(0)


def padded(x: Array, channels: int) -> Array:
    """(..., channels) in C order, its last axis in fours at an aligned address: itself, or a padded copy."""
    wide = fours(channels)
    if wide == channels and address(x) % 16 == 0:
        return x
    copy = empty(x, (x.size // channels, wide))
    _pad[blocks(copy.size, _BLOCK)](x, copy, copy.size, channels, wide)
    return copy
