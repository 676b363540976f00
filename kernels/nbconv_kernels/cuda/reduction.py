"""Sums and maxima over threads, always added in the same order: within a team of lanes, and within a block.

A *team* is 1, 2, 4 .. 32 neighbouring lanes of a warp that work on one row together; its results reach all of
its lanes. Every lane of the warp has to take part.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.target import cuda, float32, uint32

__all__ = ["block_sum", "team_maximum", "team_shift", "team_sum", "warp_sum"]

_ALL = 0xFFFFFFFF
_WARPS = 32  # of a block, at most


def team_shift(length: int) -> int:
    """The binary logarithm of the lanes that a row of ``length`` elements is worth: two elements or more each."""
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
def warp_sum(value) -> Any:
    """The sum of ``value`` over the warp."""
    return team_sum(value, uint32(5))


@device_function
def block_sum(value) -> Any:
    """The sum of ``value`` over the block, for each of its threads; a barrier before and after."""
    parts = cuda.shared.array(_WARPS, float32)
    value = warp_sum(value)
    thread = uint32(cuda.threadIdx.x)
    cuda.syncthreads()
    if uint32(thread & uint32(31)) == uint32(0):
        parts[uint32(thread >> uint32(5))] = value
    cuda.syncthreads()
    total = float32(0)
    for warp in range(uint32(uint32(cuda.blockDim.x) >> uint32(5))):
        total += parts[uint32(warp)]
    return total
