"""What L2 regularisation needs of the weights W: their squares for the loss, themselves for the gradient.

    penalty = weight / 2 * sum of W^2        its gradient = weight * W

Each thread adds up the squares of at most some hundred elements, four at a time, and each block the sums of
its threads; these sums, at most 512 an array, are added up exactly where they are needed, on the host.

Limit: memory bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.intrinsics import load4
from nbconv_kernels.cuda.layout import accumulate_scaled
from nbconv_kernels.cuda.memory import (
    Array,
    check_float,
    empty,
    in_fours,
    is_deferred,
    namespace,
    scalars,
    whole,
)
from nbconv_kernels.cuda.reduction import block_sum
from nbconv_kernels.cuda.target import cuda, f32s, float32, u32, uint32

__all__ = ["add_scaled", "sum_of_squares"]

_BLOCK = 256
_MOST = 512


@kernel(block=_BLOCK)
def _squares(x: f32s, sums: f32s, n: u32, fours: u32):
    total, rest = float32(0), float32(0)
    thread = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(_BLOCK)) + uint32(cuda.threadIdx.x))
    step = uint32(uint32(cuda.gridDim.x) * uint32(_BLOCK))
    i = uint32(uint32(4) * thread)
    while uint32(i + uint32(4)) <= fours:
        a, b, c, d = load4(x, i)
        total += a * a + b * b
        rest += c * c + d * d
        i = uint32(i + uint32(uint32(4) * step))
    i = uint32(uint32(fours & uint32(0xFFFFFFFC)) + thread)
    while i < n:
        value = x[i]
        total += value * value
        i = uint32(i + step)
    total = block_sum(total + rest)
    if uint32(cuda.threadIdx.x) == uint32(0):
        sums[uint32(cuda.blockIdx.x)] = total


def sum_of_squares(arrays: Sequence[Array]) -> Any:
    """The sum of the squares of all elements of all arrays, added up in float32, then in float64.

    Raises:
        TypeError: if the arrays are not all float32.
    """
    arrays = list(arrays)
    check_float("sum_of_squares", *arrays)
    counts = [min(blocks(x.size, 16 * _BLOCK), _MOST) for x in arrays]
    sums = empty(arrays[0], (sum(counts),))
    first = 0
    for x, count in zip(arrays, counts, strict=True):
        memory = x if x.flags.c_contiguous else whole(x)
        _squares[count](memory, sums[first:], x.size, in_fours(x.size, memory))
        first += count
    if is_deferred():
        total: Array = sums.sum(dtype=np.float64)
        return namespace(sums).asarray(total)
    return math.fsum(scalars(sums))


def add_scaled(into: Array, value: Array, scale: float) -> None:
    """``into += scale * value`` in place, for arrays of one shape.

    Raises:
        TypeError: if they are not both float32.
        ValueError: if the shapes differ or ``into`` is read-only.
    """
    accumulate_scaled("add_scaled", into, value, float(scale))
