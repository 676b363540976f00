"""Logic, shifts, and fields of bits."""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cuda.emulator import compiled
from nbconv_kernels.cuda.emulator.instructions.registry import Function, Step, elementwise, instruction
from nbconv_kernels.cuda.emulator.program import Instruction
from nbconv_kernels.cuda.emulator.types import DTYPES, Value, unsigned, width

_LOGIC: dict[str, Function] = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
_U32, _U64 = np.uint32, np.uint64


@instruction(*_LOGIC)
def _logic(i: Instruction) -> Step:
    i.only()
    return elementwise(i, _LOGIC[i.name], [i.kind] * 2, i.kind)


@instruction("not")
def _not(i: Instruction) -> Step:
    i.only()
    return elementwise(i, np.invert, [i.kind], i.kind)


@instruction("cnot")
def _cnot(i: Instruction) -> Step:
    i.only()
    return elementwise(i, lambda a: (a == 0).astype(a.dtype), [i.kind], i.kind)


@instruction("shl")
def _shl(i: Instruction) -> Step:
    i.only()
    bits = 8 * width(i.kind)

    def shift(a: Value, by: Value) -> Value:
        moved = a << np.minimum(by, _U32(bits - 1)).astype(a.dtype)
        return moved if _below(by, bits) else np.where(by < bits, moved, a.dtype.type(0))[()]

    return elementwise(i, shift, [i.kind, "u32"], i.kind)


@instruction("shr")
def _shr(i: Instruction) -> Step:
    i.only()
    bits = 8 * width(i.kind)
    signed = i.kind[0] == "s"

    def shift(a: Value, by: Value) -> Value:
        moved = a >> np.minimum(by, _U32(bits - 1)).astype(a.dtype)
        return moved if signed or _below(by, bits) else np.where(by < bits, moved, a.dtype.type(0))[()]

    return elementwise(i, shift, [i.kind, "u32"], i.kind)


def _below(by: Value, bits: int) -> bool:
    return bool(by.ndim == 0 and by < bits)


@instruction("shf")
def _shf(i: Instruction) -> Step:
    i.only("l", "r", "wrap", "clamp")
    left, wrap = "l" in i.modifiers, "wrap" in i.modifiers

    def shift(low: Value, high: Value, by: Value) -> Value:
        both = (high.astype(_U64) << _U64(32)) | low.astype(_U64)
        by = (by & _U32(31) if wrap else np.minimum(by, _U32(32))).astype(_U64)
        return ((both << by) >> _U64(32) if left else both >> by).astype(_U32)

    return elementwise(i, shift, ["b32", "b32", "u32"], "b32")


@instruction("bfe")
def _bfe(i: Instruction) -> Step:
    i.only()
    kind, bits = i.kind, 8 * width(i.kind)
    dtype, bare = DTYPES[kind], unsigned(kind)

    def extract(a: Value, position: Value, length: Value) -> Value:
        position, length = (position & _U32(0xFF)).astype(np.int64), (length & _U32(0xFF)).astype(np.int64)
        if kind[0] == "u":
            kept = np.minimum(length, 64).astype(_U64)
            ones = np.where(kept >= 64, ~_U64(0), (_U64(1) << np.minimum(kept, _U64(63))) - _U64(1))
            moved = np.where(position < 64, a.astype(_U64) >> np.minimum(position, 63).astype(_U64), _U64(0))
            return (moved & ones).astype(dtype)[()]
        # The field's sign is its top bit, or the number's where the field reaches beyond it.
        wide = a.astype(np.int64)
        end = np.minimum(position + length, bits)
        up = np.minimum(64 - end, 63)
        moved = np.where(end > 0, wide << up, 0) >> np.clip(up + position, 0, 63)
        beyond = np.where(a < 0, -1, 0)
        result = np.where(length == 0, 0, np.where(position >= bits, beyond, moved))
        return result.astype(bare).view(dtype)[()]

    return elementwise(i, extract, [kind, "u32", "u32"], kind)


@instruction("bfi")
def _bfi(i: Instruction) -> Step:
    i.only()
    kind, bits = i.kind, 8 * width(i.kind)
    bare = unsigned(kind)

    def insert(a: Value, b: Value, position: Value, length: Value) -> Value:
        position, length = (x & _U32(0xFF) for x in (position, length))
        position, length = (np.minimum(x, _U32(64)).astype(_U64) for x in (position, length))
        ones = np.where(length >= 64, ~_U64(0), (_U64(1) << np.minimum(length, _U64(63))) - _U64(1))
        at = np.minimum(position, _U64(63))
        field = np.where(position < bits, ones << at, _U64(0)).astype(bare)
        return ((b & ~field) | ((a.astype(_U64) << at).astype(bare) & field))[()]

    return elementwise(i, insert, [kind, kind, "u32", "u32"], kind)


@instruction("popc")
def _popc(i: Instruction) -> Step:
    i.only()
    return elementwise(i, lambda a: np.bitwise_count(a).astype(_U32), [i.kind], "u32")


@instruction("clz")
def _clz(i: Instruction) -> Step:
    i.only()
    bits = 8 * width(i.kind)
    return elementwise(i, lambda a: _U32(bits) - _length(a), [i.kind], "u32")


def _length(a: Value) -> Value:
    """How many bits a number has up to its highest one."""
    filled = a
    for shift in (1, 2, 4, 8, 16, 32):
        if shift < 8 * a.dtype.itemsize:
            filled = filled | (filled >> a.dtype.type(shift))
    return np.bitwise_count(filled).astype(_U32)


@instruction("bfind")
def _bfind(i: Instruction) -> Step:
    i.only("shiftamt")
    bits = 8 * width(i.kind)
    bare = unsigned(i.kind)

    def find(a: Value) -> Value:
        positive = np.where(a < 0, ~a, a).astype(bare)
        found = _length(positive) - _U32(1)
        if "shiftamt" in i.modifiers:
            return np.where(positive == 0, ~_U32(0), _U32(bits - 1) - found)[()]
        return found

    return elementwise(i, find, [i.kind], "u32")


@instruction("brev")
def _brev(i: Instruction) -> Step:
    i.only()
    bits = 8 * width(i.kind)

    def reverse(a: Value) -> Value:
        one = a.dtype.type
        result = a ^ a
        for k in range(bits):
            result = result | (((a >> one(k)) & one(1)) << one(bits - 1 - k))
        return result

    return elementwise(i, reverse, [i.kind], i.kind)


@instruction("prmt")
def _prmt(i: Instruction) -> Step:
    i.only()

    def permute(a: Value, b: Value, selector: Value) -> Value:
        both = a.astype(_U64) | (b.astype(_U64) << _U64(32))
        result: Value = _U32(0)
        for k in range(4):
            choice = (selector >> _U32(4 * k)) & _U32(0xF)
            byte = (both >> ((choice & _U32(7)).astype(_U64) * _U64(8))) & _U64(0xFF)
            sign = np.where(byte >= 0x80, _U64(0xFF), _U64(0))
            byte = np.where(choice >= 8, sign, byte)
            result = result | (byte.astype(_U32) << _U32(8 * k))
        return result[()]

    return elementwise(i, permute, ["b32", "b32", "u32"], "b32")


@instruction("lop3")
def _lop3(i: Instruction) -> Step:
    i.only()

    def combine(a: Value, b: Value, c: Value, table: Value) -> Value:
        result: Value = _U32(0)
        for row in range(8):
            term = (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            result = result | (term & (_U32(0) - ((table >> _U32(row)) & _U32(1))))
        return result

    return elementwise(i, combine, ["b32", "b32", "b32", "u32"], "b32")


@instruction("selp")
def _selp(i: Instruction) -> Step:
    i.only()
    kind = f"b{8 * width(i.kind)}"
    return elementwise(i, lambda a, b, p: compiled.select(p, a, b), [kind, kind, "pred"], kind)


@instruction("slct")
def _slct(i: Instruction) -> Step:
    i.only("ftz")
    kind, last = i.kinds[0], i.kinds[-1]

    def choose(a: Value, b: Value, c: Value) -> Value:
        return compiled.select(c >= 0, a, b)

    return elementwise(i, choose, [kind, kind, last], kind)
