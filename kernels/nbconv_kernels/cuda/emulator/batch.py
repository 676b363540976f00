"""The lanes of several blocks that run together: their registers, and who of them is still running."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nbconv_kernels.cuda.emulator.memory import Memory
from nbconv_kernels.cuda.emulator.program import Program
from nbconv_kernels.cuda.emulator.types import Array, Value, poison

__all__ = ["WARP", "Batch", "Mask", "Shape"]

WARP = 32
Mask = Array | None
"""Which lanes an instruction is for, a bool each; None where all that still run take part."""
Shape = tuple[int, int, int]


@functools.lru_cache(maxsize=64)
def _threads(block: Shape, blocks: int) -> tuple[Array, dict[str, Array]]:
    """For every lane its thread's number within the block, and its special registers."""
    padded = -(-block[0] * block[1] * block[2] // WARP) * WARP
    thread = np.tile(np.arange(padded, dtype=np.uint32), blocks)
    x, y = np.uint32(block[0]), np.uint32(block[1])
    lane = thread % np.uint32(WARP)
    bit = np.uint32(1) << lane
    special = {
        "%tid.x": thread % x,
        "%tid.y": thread // x % y,
        "%tid.z": thread // (x * y),
        "%laneid": lane,
        "%warpid": thread // np.uint32(WARP),
        "%lanemask_eq": bit,
        "%lanemask_lt": bit - np.uint32(1),
        "%lanemask_le": bit | (bit - np.uint32(1)),
        "%lanemask_gt": ~(bit | (bit - np.uint32(1))),
        "%lanemask_ge": ~(bit - np.uint32(1)),
    }
    return thread, special


@functools.lru_cache(maxsize=256)
def _poisons(kinds: tuple[str, ...]) -> list[Value]:
    return [poison(kind) for kind in kinds]


class Batch:
    """Blocks in lockstep. A lane is a thread, or nothing where a block does not fill its last warp.

    Attributes:
        count: lanes; each block has ``per_block`` of them, whole warps.
        registers: by number, each an array over the lanes or one NumPy scalar for all.
        alive: the lanes still running.
        needed: the registers, a bit each, of which a masked write must leave the other lanes' values.
        carry: what the last link of a chain of sums has left.
        memory: what they read and write.
        commits, pending: groups of asynchronous copies that each lane has closed, and copies under way.
    """

    def __init__(
        self, program: Program, grid: Shape, block: Shape, first_block: int, blocks: int, memory: Memory
    ) -> None:
        threads = block[0] * block[1] * block[2]
        self.thread, special = _threads(block, blocks)
        self.count = len(self.thread)
        self.per_block = self.count // blocks
        self.blocks = blocks
        self.first_block = first_block
        self.grid = grid
        self.registers: list[Value] = list(_poisons(tuple(program.registers)))
        self.special: dict[str, Value] = dict(special)
        for axis, name in enumerate("xyz"):
            self.special[f"%ntid.{name}"] = np.uint32(block[axis])
            self.special[f"%nctaid.{name}"] = np.uint32(grid[axis])
        for name in ("%clock", "%clock_hi", "%smid"):
            self.special[name] = np.uint32(0)
        for name in ("%clock64", "%globaltimer"):
            self.special[name] = np.uint64(0)
        self.special["WARP_SZ"] = np.uint32(WARP)
        self.special["%dynamic_smem_size"] = np.uint32(program.shared_bytes)
        self.special["%total_smem_size"] = np.uint32(program.shared_bytes)
        self._number_blocks()
        self.alive: Array = self.thread < threads
        self.needed = -1
        self.carry: Value = np.bool_(False)
        self.memory = memory
        self.commits = np.zeros(self.count, np.int64)
        self.pending: list[Any] = []
        self._count_alive()

    def _number_blocks(self) -> None:
        number = self.first_block + np.arange(self.blocks, dtype=np.int64)
        parts = (
            number % self.grid[0],
            number // self.grid[0] % self.grid[1],
            number // self.grid[0] // self.grid[1],
        )
        for name, part in zip("xyz", parts, strict=True):
            self.special[f"%ctaid.{name}"] = (
                np.uint32(part[0]) if self.blocks == 1 else np.repeat(part.astype(np.uint32), self.per_block)
            )

    def _count_alive(self) -> None:
        self.all_alive = bool(self.alive.all())
        self.alive_lanes = np.nonzero(self.alive)[0]
        self._mask: Mask = None
        self._lanes = self.alive_lanes

    def exit(self, mask: Mask) -> None:
        """These lanes have come to their end."""
        self.alive = np.zeros(self.count, np.bool_) if mask is None else self.alive & ~mask
        self._count_alive()

    def lanes(self, mask: Mask) -> Array:
        """The numbers of the lanes of a mask."""
        if mask is None:
            return self.alive_lanes
        if mask is not self._mask:
            self._mask, self._lanes = mask, np.nonzero(mask)[0]
        return self._lanes

    def whole(self, value: Value) -> Array:
        """A value as an array with an element for each lane, one after another in memory."""
        array: Array = np.ascontiguousarray(value)
        return array if array.shape == (self.count,) else np.full(self.count, value)

    def active(self, mask: Mask) -> Array:
        """The lanes of a mask, a row for each warp."""
        return (self.alive if mask is None else mask).reshape(-1, WARP)

    def place(self, lane: Any) -> str:
        """Where a lane runs, for messages."""
        number = self.first_block + int(lane) // self.per_block
        x, y, z = (
            number % self.grid[0],
            number // self.grid[0] % self.grid[1],
            number // self.grid[0] // self.grid[1],
        )
        return f"block ({x}, {y}, {z}), thread {int(self.thread[lane])}"
