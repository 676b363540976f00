"""Which lanes run next: groups of lanes at the same instruction, the earliest first, until they meet others.

A warp's collective instruction waits for all lanes that its member mask names and that still run; a barrier
for all of the block that still run. Whoever waits for lanes that never come is told so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv_kernels.cuda.emulator.batch import WARP, Batch, Mask
from nbconv_kernels.cuda.emulator.code import Code, Kind
from nbconv_kernels.cuda.emulator.errors import DeadlockError, PtxError
from nbconv_kernels.cuda.emulator.operands import reader
from nbconv_kernels.cuda.emulator.program import Instruction, Label
from nbconv_kernels.cuda.emulator.types import Array

__all__ = ["run"]

_MOST_STEPS = 50_000_000
_BITS = np.arange(WARP, dtype=np.uint32)
_EVERY_LANE = 0xFFFFFFFF


def run(code: Code, batch: Batch, counts: list[int]) -> None:
    """Run a batch to its end; ``counts`` grows by the warps that meet each instruction.

    Raises:
        PtxError: whatever the lanes do wrong.
    """
    _Run(code, batch, counts).go()


class _Run:
    """A batch on its way through the code: lanes to run and lanes that wait, by instruction."""

    def __init__(self, code: Code, batch: Batch, counts: list[int]) -> None:
        self.code, self.batch, self.counts = code, batch, counts
        self.groups: dict[int, Array] = {0: batch.alive}
        self.at_barrier: dict[int, Array] = {}
        self.in_warp: dict[int, Array] = {}
        self.steps = 0

    def go(self) -> None:
        while self.groups or self.at_barrier or self.in_warp:
            if not self.groups:
                self.wake()
            pc = min(self.groups)
            self.follow(pc, self.groups.pop(pc))

    @property
    def nobody_else(self) -> bool:
        return not (self.groups or self.at_barrier or self.in_warp)

    def needed_by_others(self) -> int:
        """The registers that lanes will read which do not run now."""
        live, needed = self.code.live, 0
        for waiting in (self.groups, self.at_barrier, self.in_warp):
            for pc in waiting:
                needed |= live[pc]
        return needed

    def join(self, pc: int, mask: Array) -> None:
        self.groups[pc] = self.groups[pc] | mask if pc in self.groups else mask

    def follow(self, pc: int, mask: Array) -> None:
        """Run the lanes of a mask until they part, wait, end, or come to where others are."""
        batch, lines, counts = self.batch, self.code.lines, self.counts
        end, alone = len(lines), self.nobody_else
        meet = min(self.groups, default=end + 1)
        warps = int(mask.reshape(-1, WARP).any(1).sum())
        began = pc
        batch.needed = self.needed_by_others()
        while pc < end:
            kind, guard, step, target, i = lines[pc]
            counts[pc] += warps
            taken: Mask = None if alone else mask
            skipped = False
            if guard is not None:
                condition = guard(batch)
                if condition.ndim == 0:
                    skipped = not condition
                else:
                    chosen = mask & condition
                    skipped = not chosen.any()
                    if not skipped and not np.array_equal(chosen, mask):
                        if kind is Kind.PLAIN:
                            needed, batch.needed = batch.needed, -1
                            step(batch, chosen)
                            batch.needed = needed
                            skipped = True
                        else:
                            self.join(pc + 1, mask & ~condition)
                            mask, taken, alone, meet = chosen, chosen, False, min(self.groups)
                            batch.needed = self.needed_by_others()
            if skipped:
                pc += 1
            elif kind is Kind.PLAIN:
                step(batch, taken)
                pc += 1
            elif kind is Kind.BRANCH:
                if target <= pc:
                    self.steps += pc - began + 1
                    self.check_steps(i)
                pc = began = target
            elif kind is Kind.COLLECTIVE:
                mask = self.gathered(pc, mask, i)
                if not mask.any():
                    return
                alone = self.nobody_else
                batch.needed = self.needed_by_others()
                step(batch, None if alone else mask)
                pc += 1
            else:
                self.leave(kind, pc, mask, i)
                return
            if pc >= meet:
                self.join(pc, mask)
                return
        batch.exit(mask)

    def leave(self, kind: Kind, pc: int, mask: Array, i: Instruction) -> None:
        """End these lanes, have them wait at a barrier, or send them where a table says."""
        if kind is Kind.EXIT:
            self.batch.exit(mask)
        elif kind is Kind.BARRIER:
            self.at_barrier[pc] = self.at_barrier[pc] | mask if pc in self.at_barrier else mask
        else:
            index, table = i.operands
            if not isinstance(table, Label) or table.name not in self.code.program.tables:
                raise PtxError(f"no such table: {i.text}")
            numbers = self.batch.whole(reader(index, "u32")(self.batch))
            for k, name in enumerate(self.code.program.tables[table.name]):
                if (chosen := mask & (numbers == k)).any():
                    self.join(self.code.program.labels[name], chosen)

    def check_steps(self, i: Instruction) -> None:
        if self.steps > _MOST_STEPS:
            raise DeadlockError(f"still running after {self.steps} instructions, an endless loop: {i.text}")

    def gathered(self, pc: int, mask: Array, i: Instruction) -> Array:
        """The lanes whose warps are complete, those that waited here included; the others wait.

        Raises:
            PtxError: if a lane takes part that the member mask does not name.
        """
        batch, members = self.batch, self.code.members[pc]
        if pc in self.in_warp:
            mask = mask | self.in_warp.pop(pc)
        named = None if members is None else members(batch)
        all_named = named is None or (named.ndim == 0 and named == _EVERY_LANE)
        if all_named and self.nobody_else:
            return mask
        here = mask.reshape(-1, WARP)
        required = batch.alive.reshape(-1, WARP)
        if not all_named:
            bits = np.bitwise_or.reduce(
                np.where(here, batch.whole(named).reshape(-1, WARP), np.uint32(0)), axis=1
            )
            member = ((bits[:, None] >> _BITS) & np.uint32(1)).astype(np.bool_)
            if (unnamed := (here & ~member).reshape(-1)).any():
                lane = np.nonzero(unnamed)[0][0]
                raise PtxError(f"{batch.place(lane)} is not in the member mask: {i.text}")
            required = required & member
        incomplete = (required & ~here).any(1)
        if incomplete.any():
            waiting = mask & np.repeat(incomplete, WARP)
            mask = mask & ~waiting
            if waiting.any():
                self.in_warp[pc] = waiting
        return mask

    def wake(self) -> None:
        """Let on whoever waits no longer for a running lane.

        Raises:
            DeadlockError: if all do.
        """
        for pc in list(self.in_warp):
            ready = self.gathered(
                pc, np.zeros(self.batch.count, np.bool_), self.code.program.instructions[pc]
            )
            if ready.any():
                self.join(pc, ready)
        if not self.groups:
            self.open_barriers()
        if not self.groups:
            waits = []
            for pc, mask in [*self.in_warp.items(), *self.at_barrier.items()]:
                text = self.code.program.instructions[pc].text
                waits.append(
                    f"{self.batch.place(np.nonzero(mask)[0][0])} and {mask.sum() - 1} more at: {text}"
                )
            raise DeadlockError("lanes wait for others that never come; " + "; ".join(waits))

    def open_barriers(self) -> None:
        """Let the blocks on that have all their running lanes at barriers."""
        batch = self.batch
        waiting = np.zeros(batch.count, np.bool_)
        for mask in self.at_barrier.values():
            waiting = waiting | mask
        by_block = waiting.reshape(batch.blocks, -1)
        running = batch.alive.reshape(batch.blocks, -1)
        complete: Any = (by_block | ~running).all(1) & by_block.any(1)
        released = np.repeat(complete, batch.per_block)
        if batch.memory.hazards is not None and complete.any():
            batch.memory.hazards.released(batch, complete)
        for pc in list(self.at_barrier):
            mask = self.at_barrier[pc] & released
            if not mask.any():
                continue
            self.check_whole_warps(pc, mask)
            batch.needed = -1
            self.code.lines[pc][2](batch, mask)
            self.join(pc + 1, mask)
            left = self.at_barrier.pop(pc) & ~released
            if left.any():
                self.at_barrier[pc] = left

    def check_whole_warps(self, pc: int, mask: Array) -> None:
        """Raise PtxError if a part of a warp waits here and another part at another barrier."""
        here = mask.reshape(-1, WARP)
        split = here.any(1) & (self.batch.alive.reshape(-1, WARP) & ~here).any(1)
        if split.any():
            place = self.batch.place(np.nonzero(split)[0][0] * WARP)
            text = self.code.program.instructions[pc].text
            raise PtxError(f"the lanes of one warp, that of {place}, are at different barriers: {text}")
