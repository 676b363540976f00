"""One tile of a weight gradient by the micro-kernel that fits it: what both ways to one multiply with.

Limit: that of the micro-kernel.
"""

from __future__ import annotations

from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.microkernel import (
    ROWS,
    SHORT_ROWS,
    multiply_reduce_1,
    multiply_reduce_2,
    multiply_short_reduce_1,
    multiply_short_reduce_2,
)


@kernel
def multiply_tile(
    whole, wide, steps, at, count, column, abreast, row, sums, to, width, add, ahead, ahead_step
):
    """Sum over ``count`` steps: ``whole`` or short in rows that lie abreast, one vector or two (``wide``)."""
    if whole:
        if wide:
            multiply_reduce_2(
                *(steps, at, count, column, abreast, row, ROWS, sums, to, width, add, ahead, ahead_step)
            )
        else:
            multiply_reduce_1(
                *(steps, at, count, column, abreast, row, ROWS, sums, to, width, add, ahead, ahead_step)
            )
    elif wide:
        multiply_short_reduce_2(
            *(steps, at, count, column, abreast, row, SHORT_ROWS, sums, to, width, add, ahead, ahead_step)
        )
    else:
        multiply_short_reduce_1(
            *(steps, at, count, column, abreast, row, SHORT_ROWS, sums, to, width, add, ahead, ahead_step)
        )
