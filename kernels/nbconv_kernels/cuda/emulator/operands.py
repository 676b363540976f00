"""How instructions get their operands' values and leave their results.

All is decided once a program: a reader is a function of the batch, a writer one of batch, value and mask.
Values are arrays over the lanes, or NumPy scalars where all lanes hold the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Mask
from nbconv_kernels.cuda.emulator.compiled import select
from nbconv_kernels.cuda.emulator.errors import PtxError
from nbconv_kernels.cuda.emulator.program import (
    Address,
    Immediate,
    Operand,
    Register,
    Special,
    Variable,
    Vector,
)
from nbconv_kernels.cuda.emulator.types import DTYPES, Array, Value, unsigned, width

__all__ = ["Reader", "Writer", "address", "constant", "items", "reader", "writer"]

Reader = Callable[[Batch], Value]
Writer = Callable[[Batch, Value, Mask], None]


def constant(text: str, kind: str) -> Value:
    """A number in PTX's text as a NumPy scalar."""
    dtype = DTYPES[kind]
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if digits[:2] in ("0f", "0F") and len(digits) == 10:
        number = np.uint32(int(digits[2:], 16)).view(np.float32)
        return number.astype(dtype) if dtype.kind == "f" else number.view(unsigned("b32")).view(dtype)
    if digits[:2] in ("0d", "0D") and len(digits) == 18:
        wide = np.uint64(int(digits[2:], 16)).view(np.float64)
        return wide.astype(dtype) if dtype.kind == "f" else wide.view(unsigned("b64")).view(dtype)
    whole = sign * int(digits.rstrip("U"), 0)
    if kind == "pred":
        return np.bool_(whole)
    if dtype.kind == "f":
        return dtype.type(whole)
    return unsigned(kind).type(whole % (1 << (8 * width(kind)))).view(dtype)


def reader(operand: Operand, kind: str) -> Reader:
    """A function that gives an operand's value as ``kind``, of a wider register the low bits."""
    dtype = DTYPES[kind]
    if isinstance(operand, Register):
        return _register_reader(operand, kind)
    if isinstance(operand, Immediate):
        value = constant(operand.text, kind)
        return lambda batch: value
    if isinstance(operand, Special):
        name = operand.name
        return lambda batch: _special(batch, name).astype(dtype, copy=False)
    if isinstance(operand, Variable):
        name, space = operand.name, operand.space
        return lambda batch: dtype.type(batch.memory.address_of(name, space))
    raise PtxError(f"no value: {operand}")


def _special(batch: Batch, name: str) -> Value:
    if name not in batch.special:
        raise PtxError(f"the register {name} is not modelled")
    return batch.special[name]


def _register_reader(register: Register, kind: str) -> Reader:
    number, held, dtype = register.number, DTYPES[register.kind], DTYPES[kind]
    if register.negated:
        return lambda batch: ~batch.registers[number]
    if held == dtype:
        return lambda batch: batch.registers[number]
    if held.itemsize == dtype.itemsize and "pred" not in (kind, register.kind):
        return lambda batch: batch.registers[number].view(dtype)
    if held.itemsize > dtype.itemsize and dtype.kind in "uif" and held.kind in "ui":
        narrow = unsigned(kind)
        return lambda batch: batch.registers[number].astype(narrow).view(dtype)
    raise PtxError(f"a register of the type .{register.kind} read as .{kind}")


def writer(operand: Operand, kind: str) -> Writer:
    """A function that puts a value of ``kind`` into a register, extended to its width where it is wider."""
    if isinstance(operand, Special) or (isinstance(operand, Register) and operand.negated):
        raise PtxError(f"cannot write to {operand}")
    if not isinstance(operand, Register):  # _, the sink
        return lambda batch, value, mask: None
    number, held, dtype = operand.number, DTYPES[operand.kind], DTYPES[kind]
    if held == dtype:
        convert = None
    elif held.itemsize == dtype.itemsize and held.kind != "b":
        convert = np.dtype(held)
    elif held.itemsize > dtype.itemsize and held.kind in "ui" and dtype.kind in "ui":
        extended = held
        return lambda batch, value, mask: _put(batch, number, value.astype(extended), mask)
    elif held.itemsize > dtype.itemsize and held.kind in "ui" and dtype.kind == "f":
        narrow, extended = unsigned(kind), held
        return lambda batch, value, mask: _put(batch, number, value.view(narrow).astype(extended), mask)
    else:
        raise PtxError(f"a value of the type .{kind} for a register of the type .{operand.kind}")
    if convert is None:
        return lambda batch, value, mask: _put(batch, number, value, mask)
    view = convert
    return lambda batch, value, mask: _put(batch, number, value.view(view), mask)


def _put(batch: Batch, number: int, value: Value, mask: Mask) -> None:
    """Registers' arrays are never written in place, so that a move may share them."""
    if mask is not None and batch.needed >> number & 1:
        value = select(mask, value, batch.registers[number])
    batch.registers[number] = value


def address(operand: Operand) -> Callable[[Batch], Array]:
    """A function that gives an address operand's value: int64 for every lane."""
    if not isinstance(operand, Address):
        raise PtxError(f"no address: {operand}")
    base, offset = operand.base, np.int64(operand.offset)
    if isinstance(base, Register) and width(base.kind) == 4:
        short, wrapped = reader(base, "u32"), np.uint32(operand.offset % (1 << 32))
        return lambda batch: batch.whole((short(batch) + wrapped).astype(np.int64))
    long = reader(base, "s64")
    return lambda batch: batch.whole(long(batch) + offset)


def items(operand: Operand) -> tuple[Operand, ...]:
    """The operands of a vector, or the one operand."""
    return operand.items if isinstance(operand, Vector) else (operand,)
