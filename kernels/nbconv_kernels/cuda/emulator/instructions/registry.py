"""Instructions by name, and what most of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Mask
from nbconv_kernels.cuda.emulator.operands import reader, writer
from nbconv_kernels.cuda.emulator.program import Instruction
from nbconv_kernels.cuda.emulator.types import Value

__all__ = ["Build", "Function", "Step", "build", "elementwise", "flushed", "instruction", "saturated"]

Step = Callable[[Batch, Mask], None]
Build = Callable[[Instruction], Step]
Function = Callable[..., Value]

_BUILDS: dict[str, Build] = {}


def instruction(*names: str) -> Callable[[Build], Build]:
    """Register what makes the steps of the instructions with these names."""

    def register(function: Build) -> Build:
        for name in names:
            _BUILDS[name] = function
        return function

    return register


def build(i: Instruction) -> Step:
    """What an instruction does to the lanes of a mask.

    Raises:
        UnknownInstructionError: if it, or one of its modifiers, is not modelled.
    """
    if i.name not in _BUILDS:
        raise i.unknown()
    return _BUILDS[i.name](i)


def elementwise(i: Instruction, function: Function, sources: Sequence[str], result: str) -> Step:
    """``function`` of the operands behind the first, read as ``sources``, into the first as ``result``."""
    if len(i.operands) != len(sources) + 1:
        raise i.unknown(f"{len(i.operands)} operands")
    reads = [reader(operand, kind) for operand, kind in zip(i.operands[1:], sources, strict=True)]
    write = writer(i.operands[0], result)
    if len(reads) == 1:
        (a,) = reads
        return lambda batch, mask: write(batch, function(a(batch)), mask)
    if len(reads) == 2:
        a, b = reads
        return lambda batch, mask: write(batch, function(a(batch), b(batch)), mask)
    if len(reads) == 3:
        a, b, c = reads
        return lambda batch, mask: write(batch, function(a(batch), b(batch), c(batch)), mask)
    return lambda batch, mask: write(batch, function(*[read(batch) for read in reads]), mask)


def flushed(x: Value) -> Value:
    """``x`` with zeros of its sign for its subnormal numbers."""
    if x.dtype.kind != "f":
        return x
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)[()]


def saturated(x: Value) -> Value:
    """``x`` clamped to 0 .. 1; 0 where it is NaN."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    return np.where(x > zero, np.minimum(x, one), zero)[()]
