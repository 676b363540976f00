"""Tiles of a matrix product on CUDA cores: what a block computes, and how its threads share that.

A block of ``rows`` x ``columns`` results adds up slabs of 8 terms. Both factors' slabs lie in shared memory
with the terms as rows, so that a thread reads its ``each`` rows and columns as 128-bit vectors, for
``each``^2 multiply-adds a term. The threads of a warp lie 8 across and 4 down: each vector is read by several
of them at once, which shared memory serves in one go.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.intrinsics import load4
from nbconv_kernels.cuda.target import cuda, float32, int32, uint64

__all__ = [
    "DEPTH",
    "LARGE",
    "NARROW",
    "SMALL",
    "Tile",
    "best_tile",
    "multiply",
    "position",
    "second_buffer",
    "split_count",
]

DEPTH = 8
"""Terms of a slab."""

_PROCESSORS = 132  # of an H100


class Tile(NamedTuple):
    """Results of a block, and ``each`` x ``each`` of them in a thread."""

    rows: int
    columns: int
    each: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns // self.each**2

    def loads(self, extent: int) -> int:
        """Vectors of a slab of ``extent`` rows or columns that a thread brings."""
        return extent * DEPTH // 4 // self.threads

    def grid(self, rows: int, columns: int) -> int:
        """Blocks for a product of so many rows and columns."""
        return -(-rows // self.rows) * -(-columns // self.columns)


LARGE, NARROW, SMALL = Tile(128, 128, 8), Tile(128, 64, 8), Tile(32, 32, 4)


def best_tile(rows: int, columns: int, batch: int = 1) -> Tile:
    """The largest tile that is not mostly margin and gives every processor a block, else the smallest."""
    for tile in (LARGE, NARROW):
        if columns > tile.columns // 2 and tile.grid(rows, columns) * batch >= _PROCESSORS:
            return tile
    return SMALL


def second_buffer(size: int) -> int:
    """Where the second of two buffers begins: at a power of two, for one instruction to go to and fro."""
    return 1 << (size - 1).bit_length()


def split_count(tiles: int, slabs: int) -> int:
    """Among how many blocks the terms of a tile are split, so that there are blocks for all processors."""
    return max(1, min(2 * _PROCESSORS // tiles, slabs // 4))


def limits(tile: Tile) -> dict[str, Any]:
    """What is asked of a kernel with this tile: room for so many blocks, and mostly multiply-adds."""
    if tile == SMALL:
        return {"max_registers": 96}
    large = (
        {"min_blocks": 2, "max_registers": 128} if tile == LARGE else {"min_blocks": 3, "max_registers": 168}
    )
    return {**large, "main_loop": "FFMA"}


@functools.lru_cache
def position(tile: Tile) -> Any:
    """A device function of the thread's number: its place (across, down) among those of the block."""
    warps_across = tile.columns // tile.each // 8

    @device_function
    def place(thread):
        lane, warp = int32(thread & int32(31)), int32(thread >> int32(5))
        across = int32(int32(int32(warp % warps_across) * int32(8)) + int32(lane & int32(7)))
        down = int32(int32(int32(warp // warps_across) * int32(4)) + int32(lane >> int32(3)))
        return across, down

    return place


@functools.lru_cache
def multiply(tile: Tile, pitch_a: int, pitch_b: int) -> Any:
    """A device function that adds the products of one slab to a thread's sums.

    ``at_a`` and ``at_b`` say where the thread's first vectors lie in shared memory; the slab's terms are
    ``pitch_a`` and ``pitch_b`` elements apart.
    """
    each, halves = tile.each, tile.each // 4
    half_a, half_b = tile.rows // 2, tile.columns // 2

    @device_function
    def term(a, b, at_a, at_b, sums):
        left = cuda.local.array(each, float32)
        right = cuda.local.array(each, float32)
        for h in range(halves):
            left[4 * h], left[4 * h + 1], left[4 * h + 2], left[4 * h + 3] = load4(
                a, at_a + uint64(h * half_a)
            )
            right[4 * h], right[4 * h + 1], right[4 * h + 2], right[4 * h + 3] = load4(
                b, at_b + uint64(h * half_b)
            )
        for i in range(each):
            for j in range(each):
                sums[i * each + j] += left[i] * right[j]

    # Written out, since the compiler does not unroll a loop over so long a body; the offsets are constants.
    @device_function
    def slab(a, b, at_a, at_b, sums):
        term(a, b, at_a, at_b, sums)
        term(a, b, at_a + uint64(pitch_a), at_b + uint64(pitch_b), sums)
        term(a, b, at_a + uint64(2 * pitch_a), at_b + uint64(2 * pitch_b), sums)
        term(a, b, at_a + uint64(3 * pitch_a), at_b + uint64(3 * pitch_b), sums)
        term(a, b, at_a + uint64(4 * pitch_a), at_b + uint64(4 * pitch_b), sums)
        term(a, b, at_a + uint64(5 * pitch_a), at_b + uint64(5 * pitch_b), sums)
        term(a, b, at_a + uint64(6 * pitch_a), at_b + uint64(6 * pitch_b), sums)
        term(a, b, at_a + uint64(7 * pitch_a), at_b + uint64(7 * pitch_b), sums)

    return slab
