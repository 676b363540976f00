"""Moves, conversions between types, and generic addresses."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Mask
from nbconv_kernels.cuda.emulator.instructions.registry import (
    Function,
    Step,
    elementwise,
    flushed,
    instruction,
    saturated,
)
from nbconv_kernels.cuda.emulator.instructions.rounding import DIRECTED, narrowed, rounded_integer, to_integer
from nbconv_kernels.cuda.emulator.operands import items, reader, writer
from nbconv_kernels.cuda.emulator.program import Instruction, Vector
from nbconv_kernels.cuda.emulator.types import DTYPES, LOCAL_WINDOW, SHARED_WINDOW, Value, unsigned, width

_WINDOWS = {
    "shared": SHARED_WINDOW,
    "shared::cta": SHARED_WINDOW,
    "local": LOCAL_WINDOW,
    "global": 0,
    "const": 0,
    "param": 0,
}
_TO_WHOLE = ("rni", "rzi", "rmi", "rpi")


@instruction("mov")
def _mov(i: Instruction) -> Step:
    i.only()
    kind = i.kind
    target, source = i.operands
    if isinstance(source, Vector):
        return _packed(i)
    if isinstance(target, Vector):
        return _unpacked(i)
    return elementwise(i, lambda a: a, [kind], kind)


def _parts(i: Instruction, count: int) -> str:
    """The type of one of ``count`` equal parts of a register."""
    return f"b{8 * width(i.kind) // count}"


def _packed(i: Instruction) -> Step:
    sources = items(i.operands[1])
    part = _parts(i, len(sources))
    reads, write = [reader(o, part) for o in sources], writer(i.operands[0], i.kind)
    bare = unsigned(i.kind)

    def step(batch: Batch, mask: Mask) -> None:
        value = bare.type(0)
        for k, read in enumerate(reads):
            value = value | (read(batch).astype(bare) << bare.type(8 * width(part) * k))
        write(batch, value.view(DTYPES[i.kind]), mask)

    return step


def _unpacked(i: Instruction) -> Step:
    targets = items(i.operands[0])
    part = _parts(i, len(targets))
    read, writes = reader(i.operands[1], f"b{8 * width(i.kind)}"), [writer(o, part) for o in targets]

    def step(batch: Batch, mask: Mask) -> None:
        value = read(batch)
        for k, write in enumerate(writes):
            shift = value.dtype.type(8 * width(part) * k)
            write(batch, (value >> shift).astype(DTYPES[part]), mask)

    return step


@instruction("cvta")
def _cvta(i: Instruction) -> Step:
    i.only("to", *_WINDOWS)
    space = i.one_of(*_WINDOWS)
    if space is None:
        raise i.unknown("its space")
    window = DTYPES[i.kind].type(_WINDOWS[space])
    function = np.subtract if "to" in i.modifiers else np.add
    return elementwise(i, (lambda a: a) if not window else lambda a: function(a, window), [i.kind], i.kind)


@instruction("isspacep")
def _isspacep(i: Instruction) -> Step:
    number = {"global": 0, "shared": 1, "shared::cta": 1, "local": 2, "const": -1}
    i.only(*number)
    wanted = number[i.modifiers[0]]
    return elementwise(i, lambda a: (a >> np.uint64(60)).astype(np.int64) == wanted, ["u64"], "pred")


@instruction("cvt")
def _cvt(i: Instruction) -> Step:
    if "tf32" in i.modifiers:
        return _to_tf32(i)
    if i.one_of("bf16", "bf16x2", "f16x2"):
        return _to_halves(i)
    i.only("rn", "ftz", "sat", *_TO_WHOLE, *DIRECTED)
    if len(i.kinds) != 2:
        raise i.unknown()
    result, source = i.kinds
    return elementwise(i, _conversion(i, result, source), [source], result)


def _conversion(i: Instruction, result: str, source: str) -> Function:
    whole, mode = i.one_of(*_TO_WHOLE), i.one_of(*DIRECTED) or "rn"
    dtype, flush, clamp = DTYPES[result], "ftz" in i.modifiers, "sat" in i.modifiers
    to_float, from_float = result[0] == "f", source[0] == "f"
    if not to_float and not from_float:
        return _clamped(dtype) if clamp else lambda a: a.astype(dtype)
    if mode != "rn" and (width(source) == 8 and not from_float):
        raise i.unknown(f".{mode} of 64-bit integers")

    def convert(a: Value) -> Value:
        if flush:
            a = flushed(a)
        if whole:
            a = rounded_integer(a, whole)
        if not to_float:
            return to_integer(a, dtype)
        a = narrowed(a.astype(np.float64), mode, dtype) if mode != "rn" else a.astype(dtype)
        if flush:
            a = flushed(a)
        return saturated(a) if clamp else a

    return convert


def _clamped(dtype: np.dtype[Any]) -> Function:
    limits = np.iinfo(dtype)

    def clamp(a: Value) -> Value:
        own = np.iinfo(a.dtype)
        return np.clip(a, max(limits.min, own.min), min(limits.max, own.max)).astype(dtype)

    return clamp


@np.errstate(all="ignore")
def tf32(x: Value) -> Value:
    """float32 as the bits of TF32, 10 of the fraction, ties away from zero."""
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(x), np.uint32(0x7FFFFFFF), np.where(np.isinf(x), bits, rounded))[()]


def tf32_to_even(x: Value) -> Value:
    """float32 as the bits of TF32, ties to even."""
    return _shortened(x, 13) << np.uint32(13)


def bf16(x: Value) -> Value:
    """float32 as the bits of bfloat16, ties to even."""
    return _shortened(x, 16).astype(np.uint16)


def _shortened(x: Value, dropped: int) -> Value:
    bits = x.view(np.uint32)
    half = np.uint32((1 << (dropped - 1)) - 1)
    rounded = (bits + half + ((bits >> np.uint32(dropped)) & np.uint32(1))) >> np.uint32(dropped)
    return np.where(np.isnan(x), np.uint32(0x7FFFFFFF >> dropped), rounded)[()]


def _to_tf32(i: Instruction) -> Step:
    i.only("rna", "rn", "tf32", "relu")
    nearest = tf32 if "rna" in i.modifiers else tf32_to_even
    return elementwise(i, lambda a: nearest(_rectified(i, a)), ["f32"], "b32")


def _rectified(i: Instruction, x: Value) -> Value:
    return np.where(x < 0, x.dtype.type(0), x)[()] if "relu" in i.modifiers else x


def _to_halves(i: Instruction) -> Step:
    """One float32 to 16 bits, two to the halves of a register, or bfloat16 to float32."""
    i.only("rn", "bf16", "bf16x2", "f16x2", "relu")
    if i.modifiers[-1] == "bf16":
        if i.kinds != ("f32",):
            raise i.unknown("its result's type")
        return elementwise(
            i, lambda a: (a.astype(np.uint32) << np.uint32(16)).view(np.float32), ["b16"], "f32"
        )

    def half(x: Value) -> Value:
        x = _rectified(i, x)
        return x.astype(np.float16).view(np.uint16) if "f16x2" in i.modifiers else bf16(x)

    if "bf16" in i.modifiers:
        return elementwise(i, half, ["f32"], "b16")

    def pair(high: Value, low: Value) -> Value:
        return (half(high).astype(np.uint32) << np.uint32(16)) | half(low).astype(np.uint32)

    return elementwise(i, pair, ["f32", "f32"], "b32")
