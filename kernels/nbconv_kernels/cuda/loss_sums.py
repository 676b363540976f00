"""What all losses share: their reductions, and the sum of what blocks have found.

A kernel's blocks write two numbers each to ``parts``, (blocks, 2): the sum of their losses, and how many of
their labels are wrong. One block adds them up and divides, always in the same order.
"""

from __future__ import annotations

import math
from typing import Any

from nbconv_kernels.cuda.build import device_function, kernel
from nbconv_kernels.cuda.memory import Array, empty, is_deferred, scalars
from nbconv_kernels.cuda.reduction import block_sum
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, uint32

__all__ = ["BLOCK", "MOST", "check_reduction", "reduced", "scale_of", "write_part"]

BLOCK = 256
MOST = 1024  # blocks of a launch, about as many as a large GPU runs at a time
_NAN = math.nan


def check_reduction(op: str, reduction: str) -> None:
    """Raise a ValueError unless the reduction is "mean", "sum" or "none"."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{op}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def scale_of(reduction: str, count: int) -> float:
    """What the gradient of the sum is multiplied by."""
    return 1 / count if reduction == "mean" and count else 1.0


@device_function
def write_part(parts, loss, wrong):
    """Keep the block's two sums, if this is its first thread."""
    if uint32(cuda.threadIdx.x) == uint32(0):
        at = uint32(uint32(2) * uint32(cuda.blockIdx.x))
        parts[at], parts[uint32(at + uint32(1))] = loss, wrong


@kernel(block=BLOCK)
def _reduce(parts: f32s, count: u32, shares: f32s, share_count: u32, shared: u32, divisor: f32, result: f32s):
    total, wrong, share = float32(0), float32(0), float32(0)
    i = uint32(cuda.threadIdx.x)
    while i < count:
        total += parts[uint32(uint32(2) * i)]
        wrong += parts[uint32(uint32(2) * i + uint32(1))]
        i = uint32(i + uint32(BLOCK))
    i = uint32(cuda.threadIdx.x)
    while i < share_count:
        share += shares[uint32(uint32(2) * i)]
        wrong += shares[uint32(uint32(2) * i + uint32(1))]
        i = uint32(i + uint32(BLOCK))
    total, wrong, share = block_sum(total), block_sum(wrong), block_sum(share)
    if uint32(cuda.threadIdx.x) == uint32(0):
        divisor = share if shared != uint32(0) else divisor
        undefined = divisor == float32(0) or wrong > float32(0)
        result[0] = float32(_NAN) if undefined else total / divisor
        result[1] = wrong


def reduced(
    parts: Array, divisor: float, shares: Array | None = None, shared: bool = False
) -> tuple[Any, int]:
    """(the sum of the losses / divisor, how many labels are wrong); this waits until they are computed.

    ``shares``, as ``parts``, may have found wrong labels too; if ``shared``, its sums are the divisor's. With
    a wrong label the loss is NaN; within ``deferred`` nothing else tells of it.
    """
    result = empty(parts, (2,))
    share_count = 0 if shares is None else len(shares)
    _reduce[1](parts, len(parts), shares, share_count, shared and shares is not None, divisor, result)
    if is_deferred():
        return result[0, ...], 0
    loss, wrong = scalars(result)
    return loss, int(wrong)
