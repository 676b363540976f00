"""Races: memory that two warps touch, one of them writing, with no barrier between.

Each unit of shared and global memory has a shadow: who last wrote it and who last read it, as block, count
of the block's barriers, and warp. Two warps of a block must be parted by a barrier, two blocks of a launch
cannot be; what happens within a warp is not looked at. Atomic operations are not watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv_kernels.cuda.emulator import compiled
from nbconv_kernels.cuda.emulator.types import Array

if TYPE_CHECKING:
    from nbconv_kernels.cuda.emulator.batch import Batch

__all__ = ["Hazard", "Hazards"]

_KINDS = (
    "",
    "a read of what another wrote",
    "a write over what another wrote",
    "a write over what another read",
    "a read of what nobody wrote",
)
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Hazard:
    """One instruction that met another warp's data.

    Attributes:
        kind: what happened.
        space: "shared" or "global".
        instruction: in PTX.
        place: block and thread of the first lane it happened to.
        address: that lane's address, in bytes from the beginning of the memory or array.
        other: whom it met.
        lanes: to how many lanes it happened.
    """

    kind: str
    space: str
    instruction: str
    place: str
    address: int
    other: str
    lanes: int

    def __str__(self) -> str:
        other = f", which {self.other} touched" if self.other else ""
        return (
            f"{self.kind} in {self.space} memory at byte {self.address} by {self.place}{other} "
            f"({self.lanes} lanes): {self.instruction}"
        )


class Hazards:
    """The shadows of a launch; ``new_batch`` before each batch of blocks.

    Args:
        unit: bytes that have one shadow, a power of two: the kernel's narrowest access.
    """

    def __init__(self, unit: int) -> None:
        self.shift = unit.bit_length() - 1
        self.found: list[Hazard] = []
        self._shared: dict[int, tuple[Array, Array]] = {}
        self._global: dict[int, tuple[Array, Array]] = {}
        self.barriers: Array = _NONE
        self._stamps: Array = _NONE

    def new_batch(self, batch: Batch) -> None:
        """Shared memory and barriers begin anew; global memory is the same for all blocks."""
        self._shared = {}
        self.barriers = np.ones(batch.blocks, np.int64)
        self._stamp(batch)

    def released(self, batch: Batch, blocks: Array) -> None:
        """These blocks, a bool each, have passed a barrier."""
        self.barriers += blocks
        self._stamp(batch)

    def _stamp(self, batch: Batch) -> None:
        block = ((np.arange(batch.blocks, dtype=np.int64) + batch.first_block) << 32) | (self.barriers << 6)
        self._stamps = np.repeat(block, batch.per_block) | (batch.thread // np.uint32(32)).astype(np.int64)

    def _shadows(self, batch: Batch, room: Any, space: str) -> tuple[Array, Array]:
        held = self._shared if space == "shared" else self._global
        key = 0 if space == "shared" else room.origin
        if key not in held:
            units = (room.bytes.nbytes + (room.origin % 16) >> self.shift) + 1
            held[key] = (np.zeros(units, np.int64), np.zeros(units, np.int64))
        return held[key]

    def watch(
        self,
        batch: Batch,
        room: Any,
        addresses: Array,
        lanes: Array,
        nbytes: int,
        storing: bool,
        space: str,
        text: str,
    ) -> None:
        """Note an access, and what it collides with."""
        writers, readers = self._shadows(batch, room, space)
        origin = room.origin - room.origin % 16
        many, lane, met, what = compiled.watch(
            writers,
            readers,
            addresses,
            lanes,
            origin,
            room.per_row,
            room.row >> self.shift,
            self.shift,
            nbytes,
            storing,
            self._stamps,
            space == "shared",
        )
        if not many:
            return
        other = ""
        if what != 4:
            other = "several blocks" if met == -1 else f"block {met >> 32}, "
            other += "" if met == -1 else "several warps" if met & 63 == 63 else f"warp {met & 63}"
        at = int(addresses[lane]) - room.origin
        self.found.append(Hazard(_KINDS[what], space, text, batch.place(lane), at, other, int(many)))
