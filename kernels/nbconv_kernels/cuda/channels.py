"""Sweeps over the channels of channels-last memory: which thread has which channels of which rows.

Images are rows of channels, ``pitch`` elements apart, one after the other. A block of 256 threads has
``1 << shift`` lanes for as many quads of channels (or single channels, where four cannot be read at once) and
its other threads for rows below each other, in steps over the image: so a warp reads whole lines, and what
belongs to a channel is loaded once a thread. The grid is (images, parts of the rows, tiles of channels).

Sums go over a thread's rows, then over the block, then over the parts, always in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nbconv_kernels.cuda.build import Kernel, device_function
from nbconv_kernels.cuda.intrinsics import load4, store4
from nbconv_kernels.cuda.memory import LIMIT, Array, address, is_range_of_channels, is_whole, whole
from nbconv_kernels.cuda.target import cuda, float32, uint32

BLOCK = 256
_BLOCKS = 1024  # of a launch, about as many as a large GPU runs at a time


class Sweep(NamedTuple):
    """An array of ``images`` times ``rows`` rows, and the grid of the kernels that go over it."""

    array: Array
    images: int
    rows: int
    channels: int
    pitch: int
    width: int
    shift: int
    parts: int
    tiles: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """One block for each image, part and tile."""
        return self.images, self.parts, self.tiles

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """What every kernel is told: channels, rows, pitch, shift."""
        return self.channels, self.rows, self.pitch, self.shift


def sweep(x: Array, images: int, channels: int) -> Sweep:
    """The sweep over ``x``, whose channels are the last axis of memory; 4-D may be a range of channels."""
    rows, pitch = x.size // max(1, images * channels), channels
    if not is_whole(x):
        if x.ndim == 4 and is_range_of_channels(x) and images * rows * x.strides[3] < 4 * LIMIT:
            pitch = x.strides[3] // 4
        else:
            x = whole(x)
    width = 4 if channels % 4 == 0 and pitch % 4 == 0 and address(x) % 16 == 0 else 1
    lanes = -(-channels // width)
    shift = min(5, (lanes - 1).bit_length())
    tiles = -(-lanes // (1 << shift))
    at_once = BLOCK >> shift
    parts = max(1, min(-(-rows // at_once), _BLOCKS // max(1, images * tiles)))
    return Sweep(x, images, rows, channels, pitch, width, shift, parts, tiles)


class Access(NamedTuple):
    """How a kernel reads and writes ``width`` neighbours: ``read(array, at, values)`` and ``write``."""

    width: int
    read: Any
    write: Any


@device_function
def _read1(array, at, values):
    values[0] = array[at]


@device_function
def _write1(array, at, values):
    array[at] = values[0]


@device_function
def _read4(array, at, values):
    values[0], values[1], values[2], values[3] = load4(array, at)


@device_function
def _write4(array, at, values):
    store4(array, at, values[0], values[1], values[2], values[3])


_ACCESSES = Access(1, _read1, _write1), Access(4, _read4, _write4)


def for_widths(make: Callable[[Access], Kernel]) -> Callable[[int], Kernel]:
    """The kernels that ``make`` gives for each width, by the width."""
    return {access.width: make(access) for access in _ACCESSES}.__getitem__


@device_function
def place_of(shift, width) -> Any:
    """This thread's (first channel, first row, step from row to row)."""
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread & uint32(uint32(uint32(1) << shift) - uint32(1)))
    channel = uint32(uint32(uint32(uint32(cuda.blockIdx.z) << shift) + lane) * uint32(width))
    at_once = uint32(uint32(BLOCK) >> shift)
    row = uint32(uint32(uint32(cuda.blockIdx.y) * at_once) + uint32(thread >> shift))
    return channel, row, uint32(uint32(cuda.gridDim.y) * at_once)


@device_function
def store_part(sums, kind, kinds, channel, channels, values, width):
    """Keep a block's sums of one kind for its channels, if this thread is the first of its lane.

    ``sums`` is (images, parts, kinds, channels).
    """
    image, part = uint32(cuda.blockIdx.x), uint32(cuda.blockIdx.y)
    line = uint32(uint32(uint32(image * uint32(cuda.gridDim.y)) + part) * uint32(kinds))
    base = uint32(uint32(uint32(line + uint32(kind)) * channels) + channel)
    for j in range(width):
        sums[uint32(base + uint32(j))] = values[j]


@device_function
def value_or(vector, given, at, otherwise) -> Any:
    """An element of a vector that may be left out."""
    return vector[at] if given != uint32(0) else float32(otherwise)
