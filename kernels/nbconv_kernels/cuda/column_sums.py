"""Sums over the rows of a matrix: the gradient of a bias.

    sums[c] = sum over rows of x[row, c]

A block has 32 neighbouring columns, so that its reads are whole lines of memory, and 8 rows at a time; its
threads' sums are added up in shared memory. Tall matrices are split among blocks along the rows, and a
second launch adds their partial sums: always in the same order.

Limit: memory bandwidth.
"""

from __future__ import annotations

from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.memory import Array, empty
from nbconv_kernels.cuda.target import cuda, f32s, float32, u32, uint32

__all__ = ["column_sums"]

_ACROSS, _DOWN = 32, 8
_BLOCK = _ACROSS * _DOWN
_SHARE = 128  # rows of a block, at least
_PARTS = 64  # blocks along the rows, at most


@kernel(block=_BLOCK)
def _column_sums(x: f32s, sums: f32s, rows: u32, columns: u32, share: u32):
    parts = cuda.shared.array(_BLOCK, float32)
    thread = uint32(cuda.threadIdx.x)
    down = uint32(thread // uint32(_ACROSS))
    column = uint32(uint32(cuda.blockIdx.x) * uint32(_ACROSS) + thread % uint32(_ACROSS))
    part = uint32(cuda.blockIdx.y)
    row = uint32(part * share + down)
    end = uint32(min(rows, uint32(part * share + share)))
    total = float32(0)
    if column < columns:
        while row < end:
            total += x[uint32(row * columns + column)]
            row = uint32(row + uint32(_DOWN))
    parts[thread] = total
    cuda.syncthreads()
    if down == uint32(0) and column < columns:
        for i in range(uint32(1), uint32(_DOWN)):
            total += parts[uint32(thread + uint32(i) * uint32(_ACROSS))]
        sums[uint32(part * columns + column)] = total


def column_sums(x: Array, columns: int) -> Array:
    """(columns,), the sums over the rows of x, which lies in memory as a (rows, columns) matrix."""
    rows = x.size // columns if columns else 0
    while True:
        parts = min(_PARTS, blocks(rows, _SHARE))
        share = -(-rows // parts)
        sums = empty(x, (parts, columns))
        _column_sums[blocks(columns, _ACROSS), parts](x, sums, rows, columns, share)
        if parts == 1:
            return sums[0]
        x, rows = sums, parts
