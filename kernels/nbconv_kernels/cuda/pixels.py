"""A grid over the pixels of channels-last images: each thread has four channels of one pixel at a time.

Blocks along the first axis of the grid have a row of pixels each, those along the second its parts, so that a
thread divides only once, by the number of quads of channels:

    item = first_item()
    while item < uint32(width * quads(channels)):
        ...
        item = next_item(item)

Where the channels are a multiple of four, quads are read and written in 128-bit accesses; else their elements
one by one, as far as there are channels left.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda.build import Grid, blocks, device_function
from nbconv_kernels.cuda.intrinsics import load4, store4
from nbconv_kernels.cuda.target import cuda, uint32

__all__ = ["BLOCK", "first_item", "grid", "next_item", "quads", "read4", "write4"]

BLOCK = 128
_MOST = 65535  # blocks along the second axis of a grid


def grid(rows: int, width: int, channels: int) -> Grid:
    """Blocks for so many rows of ``width`` pixels."""
    return max(1, rows), min(blocks(width * -(-channels // 4), BLOCK), _MOST)


@device_function
def quads(channels) -> Any:
    """Fours of channels that a pixel has, the last perhaps not full."""
    return uint32(uint32(channels + uint32(3)) >> uint32(2))


@device_function
def first_item() -> Any:
    """The number of the first quad in the block's row that this thread has."""
    return uint32(uint32(uint32(cuda.blockIdx.y) * uint32(BLOCK)) + uint32(cuda.threadIdx.x))


@device_function
def next_item(item) -> Any:
    """The number of the quad after ``item`` that this thread has."""
    return uint32(item + uint32(uint32(cuda.gridDim.y) * uint32(BLOCK)))


@device_function
def read4(x, at, channel, channels) -> Any:
    """``x[at : at + 4]``, the pixel's channels from ``channel`` on; behind the last it is repeated."""
    if uint32(channels & uint32(3)) == uint32(0):
        return load4(x, at)
    last = uint32(uint32(channels - uint32(1)) - channel)
    b, c = uint32(at + min(last, uint32(1))), uint32(at + min(last, uint32(2)))
    return x[at], x[b], x[c], x[uint32(at + min(last, uint32(3)))]


@device_function
def write4(y, at, channel, channels, a, b, c, d) -> None:
    """``y[at : at + 4] = a, b, c, d`` as far as there are channels."""
    if uint32(channels & uint32(3)) == uint32(0):
        store4(y, at, a, b, c, d)
    else:
        y[at] = a
        if uint32(channel + uint32(1)) < channels:
            y[uint32(at + uint32(1))] = b
        if uint32(channel + uint32(2)) < channels:
            y[uint32(at + uint32(2))] = c
        if uint32(channel + uint32(3)) < channels:
            y[uint32(at + uint32(3))] = d
