"""Sums and maxima over threads, always in the same order: of a team of lanes, of a block, of many blocks.

A *team* is 1, 2, 4 .. 32 neighbouring lanes of a warp that work on one row together; its results reach all of
its lanes. Every lane of the warp has to take part, and every thread in what goes over the block.

What goes over the block has shared arrays of its own, which Numba links once for each function that calls it:
a kernel must not reach it both directly and through another device function.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda import twofold
from nbconv_kernels.cuda.build import blocks, device_function, kernel
from nbconv_kernels.cuda.memory import Array, empty
from nbconv_kernels.cuda.target import cuda, f32s, float32, int32, u32, uint32

__all__ = [
    "block_sum",
    "fold",
    "lane_sum",
    "lane_twofold",
    "team_best",
    "team_maximum",
    "team_shift",
    "team_sum",
]

_ALL = 0xFFFFFFFF
_WARPS = 32  # of a block, at most
_BLOCK = 256
_LANES = 3  # binary logarithm of the neighbouring sums that a block of ``fold`` takes


def team_shift(length: int) -> int:
    """The binary logarithm of the lanes that a row of ``length`` elements is worth, two or more for each."""
    return min(5, max(0, (length - 1).bit_length() - 1))


@device_function
def team_sum(value, shift) -> Any:
    """The sum of ``value`` over a team of ``1 << shift`` lanes."""
    step = uint32(uint32(1) << uint32(shift)) >> uint32(1)
    while step > uint32(0):
        value = value + cuda.shfl_xor_sync(_ALL, value, step)
        step = uint32(step >> uint32(1))
    return value


@device_function
def team_maximum(value, shift) -> Any:
    """The largest ``value`` in a team of ``1 << shift`` lanes, none of which may be NaN."""
    step = uint32(uint32(1) << uint32(shift)) >> uint32(1)
    while step > uint32(0):
        value = max(value, cuda.shfl_xor_sync(_ALL, value, step))
        step = uint32(step >> uint32(1))
    return value


@device_function
def team_best(value, index, shift) -> Any:
    """The largest (value, index) of a team of ``1 << shift`` lanes: NaN above all, of equals the first."""
    step = uint32(uint32(1) << uint32(shift)) >> uint32(1)
    while step > uint32(0):
        other = cuda.shfl_xor_sync(_ALL, value, step)
        other_index = uint32(cuda.shfl_xor_sync(_ALL, int32(index), step))
        alike = other == value or (other != other and value != value)
        larger = other > value or (other != other and value == value)
        if larger or (alike and other_index < index):
            value, index = other, other_index
        step = uint32(step >> uint32(1))
    return value, index


@device_function
def block_sum(value) -> Any:
    """The sum of ``value`` over the block, for each of its threads; a barrier before and after."""
    parts = cuda.shared.array(_WARPS, float32)
    value = team_sum(value, uint32(5))
    thread = uint32(cuda.threadIdx.x)
    cuda.syncthreads()
    if uint32(thread & uint32(31)) == uint32(0):
        parts[uint32(thread >> uint32(5))] = value
    cuda.syncthreads()
    total = float32(0)
    for warp in range(uint32(uint32(cuda.blockDim.x) >> uint32(5))):
        total += parts[uint32(warp)]
    return total


@device_function
def lane_sum(value, shift) -> Any:
    """The sum of ``value`` over the block's threads that are equal modulo ``1 << shift``, 32 at most."""
    parts = cuda.shared.array(_BLOCK, float32)
    thread = uint32(cuda.threadIdx.x)
    step = uint32(16)
    while step >= uint32(uint32(1) << uint32(shift)):
        value = value + cuda.shfl_xor_sync(_ALL, value, step)
        step = uint32(step >> uint32(1))
    cuda.syncthreads()
    parts[thread] = value
    cuda.syncthreads()
    total = float32(0)
    at = uint32(thread & uint32(31))
    while at < uint32(_BLOCK):
        total += parts[at]
        at = uint32(at + uint32(32))
    return total


@device_function
def lane_twofold(high, low, shift) -> Any:
    """``lane_sum`` of numbers kept as two; the threads below ``1 << shift`` have the result."""
    highs, lows = cuda.shared.array(_BLOCK, float32), cuda.shared.array(_BLOCK, float32)
    thread = uint32(cuda.threadIdx.x)
    step = uint32(16)
    while step >= uint32(uint32(1) << uint32(shift)):
        other_high, other_low = cuda.shfl_xor_sync(_ALL, high, step), cuda.shfl_xor_sync(_ALL, low, step)
        high, low = twofold.joined(high, low, other_high, other_low)
        step = uint32(step >> uint32(1))
    cuda.syncthreads()
    highs[thread], lows[thread] = high, low
    cuda.syncthreads()
    at = uint32(uint32(thread & uint32(31)) + uint32(32))
    high, low = highs[uint32(thread & uint32(31))], lows[uint32(thread & uint32(31))]
    while at < uint32(_BLOCK):
        high, low = twofold.joined(high, low, highs[at], lows[at])
        at = uint32(at + uint32(32))
    return high, low


@kernel(block=_BLOCK)
def _fold(parts: f32s, sums: f32s, count: u32, length: u32):
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread & uint32(uint32(1 << _LANES) - uint32(1)))
    i = uint32(uint32(uint32(cuda.blockIdx.x) << uint32(_LANES)) + lane)
    start = uint32(uint32(cuda.blockIdx.y) * uint32(count * length))
    total = float32(0)
    part = uint32(thread >> uint32(_LANES))
    while part < count and i < length:
        total += parts[uint32(uint32(start + uint32(part * length)) + i)]
        part = uint32(part + uint32(_BLOCK >> _LANES))
    total = lane_sum(total, uint32(_LANES))
    if thread < uint32(1 << _LANES) and i < length:
        sums[uint32(uint32(uint32(cuda.blockIdx.y) * length) + i)] = total


def fold(parts: Array) -> Array:
    """The sums over the second axis of an array whose memory is row-major, such as those of many blocks."""
    outer, count, *rest = parts.shape
    if count == 1:
        return parts.reshape(outer, *rest)
    sums = empty(parts, (outer, *rest))
    length = sums.size // max(1, outer)
    if sums.size:
        _fold[blocks(length, 1 << _LANES), outer](parts, sums, count, length)
    return sums
