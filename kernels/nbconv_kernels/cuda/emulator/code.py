"""A program made ready to run: for each instruction what it does, when, and what is live behind it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Mask
from nbconv_kernels.cuda.emulator.errors import PtxError
from nbconv_kernels.cuda.emulator.instructions import Step, build
from nbconv_kernels.cuda.emulator.liveness import live_registers
from nbconv_kernels.cuda.emulator.operands import Reader, reader, writer
from nbconv_kernels.cuda.emulator.program import Immediate, Instruction, Label, Program
from nbconv_kernels.cuda.emulator.types import Array

__all__ = ["Code", "Kind"]


class Kind(Enum):
    """How the scheduler treats an instruction."""

    PLAIN = 0
    BRANCH = 1
    TABLE = 2
    COLLECTIVE = 3
    BARRIER = 4
    EXIT = 5


class Code:
    """A program made ready to run: for each instruction its kind, guard, step and target."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.lines = [self._line(i) for i in program.instructions]
        self.live = live_registers(program)
        self.members = [
            _members(i) if line[0] is Kind.COLLECTIVE else None
            for i, line in zip(program.instructions, self.lines, strict=True)
        ]

    def _line(self, i: Instruction) -> tuple[Kind, Reader | None, Step, int, Instruction]:
        guard = reader(i.guard, "pred") if i.guard else None
        if i.name == "bra":
            return Kind.BRANCH, guard, _nothing, self._target(i.operands[0], i), i
        if i.name == "brx":
            return Kind.TABLE, guard, _nothing, 0, i
        if i.name in ("ret", "exit"):
            return Kind.EXIT, guard, _nothing, 0, i
        if i.name == "trap":
            return Kind.PLAIN, guard, _trap(i), 0, i
        if i.name in ("bar", "barrier") and "warp" not in i.modifiers:
            return Kind.BARRIER, guard, _barrier(i), 0, i
        if i.name in ("bar", "barrier"):
            return Kind.COLLECTIVE, guard, _nothing, 0, i
        kind = Kind.COLLECTIVE if "sync" in i.modifiers and i.name != "cp" else Kind.PLAIN
        return kind, guard, build(i), 0, i

    def _target(self, operand: object, i: Instruction) -> int:
        if not isinstance(operand, Label) or operand.name not in self.program.labels:
            raise PtxError(f"no such label: {i.text}")
        return self.program.labels[operand.name]


def _nothing(batch: Batch, mask: Mask) -> None:
    pass


def _trap(i: Instruction) -> Step:
    def step(batch: Batch, mask: Mask) -> None:
        raise PtxError(f"trap reached by {batch.place(batch.lanes(mask)[0])}")

    return step


def _barrier(i: Instruction) -> Step:
    """What a barrier computes of its lanes' predicates, when it opens."""
    i.only("sync", "aligned", "cta", "red", "popc", "and", "or")
    operands = list(i.operands)
    number = operands.pop(1 if "red" in i.modifiers else 0)
    if (
        not isinstance(number, Immediate)
        or int(number.text, 0)
        or len(operands) != 2 * ("red" in i.modifiers)
    ):
        raise i.unknown("a numbered barrier")
    if "red" not in i.modifiers:
        return _nothing
    asked = reader(operands[1], "pred")
    combine: Callable[[Array], Array] = {
        "popc": lambda p: p.sum(1, dtype=np.uint32),
        "and": lambda p: p.all(1),
        "or": lambda p: p.any(1),
    }[i.one_of("popc", "and", "or") or "popc"]
    write = writer(operands[0], "u32" if "popc" in i.modifiers else "pred")

    def step(batch: Batch, mask: Mask) -> None:
        here = batch.active(mask).reshape(batch.blocks, -1)
        true = batch.whole(asked(batch)).reshape(batch.blocks, -1)
        true = true | ~here if "and" in i.modifiers else true & here
        write(batch, np.repeat(combine(true), batch.per_block), mask)

    return step


def _members(i: Instruction) -> Reader | None:
    """The member mask of a collective instruction; None for those of whole warps."""
    at = {"shfl": 4, "vote": 2, "match": 2, "redux": 2, "bar": 0, "barrier": 0}.get(i.name)
    return None if at is None else reader(i.operands[at], "u32")
