"""Sums longer than a register: ``add.cc`` leaves a carry to ``addc``, and likewise sub and mad."""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Mask
from nbconv_kernels.cuda.emulator.instructions.registry import Function, Step
from nbconv_kernels.cuda.emulator.operands import reader, writer
from nbconv_kernels.cuda.emulator.program import Instruction
from nbconv_kernels.cuda.emulator.types import Value, unsigned, width

__all__ = ["chained"]


def chained(i: Instruction, product: Function | None = None) -> Step:
    """An addition, or a subtraction, that takes a carry (its name ends in c), leaves one (``.cc``), or both.

    The carry is one for all lanes of a batch, as nothing parts lanes between the links of such a chain.

    Args:
        i: the instruction.
        product: of the first two operands, where that is what is added to.
    """
    i.only("cc", "lo", "hi")
    kind, bare = f"u{8 * width(i.kind)}", unsigned(i.kind)
    takes, gives, subtracts = i.name.endswith("c"), "cc" in i.modifiers, i.name.startswith("sub")
    reads = [reader(operand, i.kind) for operand in i.operands[1:]]
    write = writer(i.operands[0], kind)

    def step(batch: Batch, mask: Mask) -> None:
        values: list[Value] = [read(batch) for read in reads]
        a = (values[0] if product is None else product(values[0], values[1])).view(bare)
        b = values[-1].view(bare)
        carried = batch.carry.astype(bare) if takes else bare.type(0)
        if subtracts:
            part = a - b
            result, carry = part - carried, (a < b) | (part < carried)
        else:
            part = a + b
            result = part + carried
            carry = (part < a) | (result < part)
        if gives:
            batch.carry = np.bool_(carry) if carry.ndim == 0 else carry
        write(batch, result, mask)

    return step
