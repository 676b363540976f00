"""Which registers will still be read, so that lanes that have parted need not keep each other's results.

A write for some lanes has to leave the others' values only where one of these will read them. Registers are
bits of an integer here. Too many uses and too few definitions would do no harm, the reverse would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nbconv_kernels.cuda.emulator.program import (
    Address,
    Instruction,
    Label,
    Operand,
    Pair,
    Program,
    Register,
    Vector,
)

__all__ = ["live_registers"]

_ORDERING = ("membar", "fence", "prefetch", "prefetchu", "nanosleep")
_WITHOUT_RESULT = {"st", "red", "bra", "brx", "bar", "barrier", "cp", "ret", "exit", "trap", *_ORDERING}


def _registers(operands: Iterable[Operand]) -> Iterator[int]:
    for operand in operands:
        if isinstance(operand, Register):
            yield operand.number
        elif isinstance(operand, Address):
            yield from _registers((operand.base,))
        elif isinstance(operand, Vector):
            yield from _registers(operand.items)
        elif isinstance(operand, Pair):
            yield from _registers((operand.first, operand.second))


def _bits(numbers: Iterable[int]) -> int:
    found = 0
    for number in numbers:
        found |= 1 << number
    return found


def _successors(program: Program, pc: int, i: Instruction) -> list[int]:
    following = [pc + 1] if i.guard or i.name not in ("bra", "brx", "ret", "exit") else []
    for operand in i.operands:
        if isinstance(operand, Label) and i.name in ("bra", "brx"):
            names = program.tables.get(operand.name, (operand.name,))
            following += [program.labels[name] for name in names if name in program.labels]
    return following


def live_registers(program: Program) -> list[int]:
    """For each instruction, and for the end behind the last, the registers that may be read from there on."""
    count = len(program.instructions)
    uses, kept, following = [], [], []
    for pc, i in enumerate(program.instructions):
        results = 0 if i.name in _WITHOUT_RESULT else 1
        guard = (i.guard,) if i.guard else ()
        uses.append(_bits(_registers((*guard, *i.operands[results:]))))
        defined = 0 if i.guard else _bits(_registers(i.operands[:results]))
        kept.append(~defined)
        following.append(_successors(program, pc, i))
    live = [0] * (count + 1)
    changed = True
    while changed:
        changed = False
        for pc in range(count - 1, -1, -1):
            after = 0
            for successor in following[pc]:
                after |= live[successor]
            now = uses[pc] | (after & kept[pc])
            if now != live[pc]:
                live[pc], changed = now, True
    return live
