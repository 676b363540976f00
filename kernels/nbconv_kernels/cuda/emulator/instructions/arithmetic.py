"""Sums, products, quotients, minima and maxima of integers and floating-point numbers."""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cuda.emulator import compiled
from nbconv_kernels.cuda.emulator.instructions.carry import chained
from nbconv_kernels.cuda.emulator.instructions.registry import (
    Function,
    Step,
    elementwise,
    flushed,
    instruction,
    saturated,
)
from nbconv_kernels.cuda.emulator.instructions.rounding import DIRECTED, narrowed, sum_to_odd
from nbconv_kernels.cuda.emulator.program import Instruction
from nbconv_kernels.cuda.emulator.types import DTYPES, Value, width

_DOUBLED = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}


def floating(i: Instruction, function: Function) -> Function:
    """``function`` with the flushing of subnormal numbers and the clamping that an instruction asks for."""
    if "ftz" in i.modifiers:
        inner = function

        def flushing(*values: Value) -> Value:
            return flushed(inner(*[flushed(value) for value in values]))

        function = flushing
    if "sat" in i.modifiers:
        whole = function

        def clamping(*values: Value) -> Value:
            return saturated(whole(*values))

        return clamping
    return function


def _directed(i: Instruction, function: Function) -> Function | None:
    """A float32 operation from its exact result in float64, where a direction of rounding is asked for."""
    mode = i.one_of(*DIRECTED)
    if mode is None:
        return None
    if i.kind != "f32":
        raise i.unknown(f"rounding .{mode} of .{i.kind}")
    return floating(i, lambda *values: narrowed(function(*values), mode, DTYPES["f32"]))


def _float64(x: Value) -> Value:
    return x.astype(np.float64)


@instruction("addc", "subc")
def _longer(i: Instruction) -> Step:
    return chained(i)


@instruction("add")
def _add(i: Instruction) -> Step:
    kind = i.kind
    if "cc" in i.modifiers:
        return chained(i)
    if kind[0] == "f":
        i.only("rn", "ftz", "sat", *DIRECTED)
        function = _directed(i, sum_to_odd) or floating(i, np.add)
    else:
        i.only("sat")
        function = _clamped(np.add, kind) if "sat" in i.modifiers else np.add
    return elementwise(i, function, [kind] * 2, kind)


@instruction("sub")
def _sub(i: Instruction) -> Step:
    kind = i.kind
    if "cc" in i.modifiers:
        return chained(i)
    if kind[0] == "f":
        i.only("rn", "ftz", "sat", *DIRECTED)
        function = _directed(i, lambda a, b: sum_to_odd(a, -b)) or floating(i, np.subtract)
    else:
        i.only("sat")
        function = _clamped(np.subtract, kind) if "sat" in i.modifiers else np.subtract
    return elementwise(i, function, [kind] * 2, kind)


def _clamped(function: Function, kind: str) -> Function:
    limits = np.iinfo(DTYPES[kind])

    def clamp(a: Value, b: Value) -> Value:
        return np.clip(function(a.astype(np.int64), b.astype(np.int64)), limits.min, limits.max).astype(
            DTYPES[kind]
        )

    return clamp


def _high(a: Value, b: Value, kind: str) -> Value:
    """The upper half of products."""
    if kind in _DOUBLED:
        wide = DTYPES[_DOUBLED[kind]]
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(8 * width(kind))).astype(DTYPES[kind])
    # 64 bits: from the products of halves, then corrected for signs (Hacker's Delight, chapter 8)
    x, y = a.astype(np.uint64), b.astype(np.uint64)
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + ((x0 * y0) >> half)
    high = x1 * y1 + (middle >> half) + (((middle & low) + x0 * y1) >> half)
    if kind == "s64":
        zero = np.uint64(0)
        high = high - np.where(a < 0, y, zero) - np.where(b < 0, x, zero)
    return high.astype(DTYPES[kind])


def _product(i: Instruction) -> tuple[Function, str]:
    """The product of integers that a mul or mad asks for, and its type."""
    kind = i.kind
    if "wide" in i.modifiers:
        if kind not in _DOUBLED:
            raise i.unknown(f".wide of .{kind}")
        wide = DTYPES[_DOUBLED[kind]]
        return (lambda a, b: a.astype(wide) * b.astype(wide)), _DOUBLED[kind]
    if "hi" in i.modifiers:
        return (lambda a, b: _high(a, b, kind)), kind
    return np.multiply, kind


@instruction("mul")
def _mul(i: Instruction) -> Step:
    kind = i.kind
    if kind[0] == "f":
        i.only("rn", "ftz", "sat", *DIRECTED)
        if kind == "f32":
            directed = _directed(i, lambda a, b: _float64(a) * _float64(b))
        else:
            directed = _directed(i, np.multiply)
        return elementwise(i, directed or floating(i, np.multiply), [kind] * 2, kind)
    i.only("lo", "hi", "wide")
    product, result = _product(i)
    return elementwise(i, product, [kind] * 2, result)


@instruction("mad", "madc")
def _mad(i: Instruction) -> Step:
    kind = i.kind
    if kind[0] == "f":
        return _fma(i)
    i.only("lo", "hi", "wide", "cc")
    product, result = _product(i)
    if i.name == "madc" or "cc" in i.modifiers:
        return chained(i, product)
    return elementwise(i, lambda a, b, c: product(a, b) + c, [kind, kind, result], result)


@instruction("mul24", "mad24")
def _mul24(i: Instruction) -> Step:
    i.only("lo", "hi")
    kind, wide = i.kind, DTYPES[_DOUBLED[i.kind]].type
    shift = np.uint32(8) if kind == "u32" else np.int32(8)
    down = wide(16 if "hi" in i.modifiers else 0)

    def product(a: Value, b: Value) -> Value:
        a, b = (a << shift) >> shift, (b << shift) >> shift
        return ((a.astype(wide) * b.astype(wide)) >> down).astype(DTYPES[kind])

    if i.name == "mul24":
        return elementwise(i, product, [kind] * 2, kind)
    return elementwise(i, lambda a, b, c: product(a, b) + c, [kind] * 3, kind)


@instruction("sad")
def _sad(i: Instruction) -> Step:
    i.only()
    kind = i.kind
    return elementwise(i, lambda a, b, c: np.where(a > b, a - b, b - a) + c, [kind] * 3, kind)


@instruction("fma")
def _fma(i: Instruction) -> Step:
    i.only("rn", "ftz", "sat", *DIRECTED)
    kind = i.kind
    function = _directed(i, lambda a, b, c: sum_to_odd(_float64(a) * _float64(b), _float64(c)))
    if function is None and kind == "f16":
        # A product of float16 numbers is exact in float64; a sum to odd rounds to float16 as the exact one.
        function = floating(
            i, lambda a, b, c: sum_to_odd(_float64(a) * _float64(b), _float64(c)).astype(np.float16)
        )
    return elementwise(i, function or floating(i, compiled.fma), [kind] * 3, kind)


@instruction("div")
def _div(i: Instruction) -> Step:
    kind = i.kind
    if kind[0] == "f":
        i.only("rn", "approx", "full", "ftz")
        return elementwise(i, floating(i, np.divide), [kind] * 2, kind)
    i.only()
    return elementwise(i, _quotient, [kind] * 2, kind)


def _quotient(a: Value, b: Value) -> Value:
    """Towards zero; all bits set for a divisor 0, where hardware promises nothing."""
    one = b.dtype.type(1)
    divisor = np.where(b == 0, one, b)
    exact = a - np.fmod(a, divisor)
    return np.where(b == 0, ~(b ^ b), exact // divisor)[()]


@instruction("rem")
def _rem(i: Instruction) -> Step:
    i.only()
    kind = i.kind

    def remainder(a: Value, b: Value) -> Value:
        return np.where(b == 0, ~(b ^ b), np.fmod(a, np.where(b == 0, b.dtype.type(1), b)))[()]

    return elementwise(i, remainder, [kind] * 2, kind)


@instruction("neg")
def _neg(i: Instruction) -> Step:
    i.only("ftz")
    return elementwise(i, floating(i, np.negative), [i.kind], i.kind)


@instruction("abs")
def _abs(i: Instruction) -> Step:
    i.only("ftz")
    return elementwise(i, floating(i, np.abs), [i.kind], i.kind)


@instruction("min", "max")
def _extreme(i: Instruction) -> Step:
    kind, smaller = i.kind, i.name == "min"
    if kind[0] != "f":
        i.only()
        return elementwise(i, np.minimum if smaller else np.maximum, [kind] * 2, kind)
    i.only("ftz", "NaN")
    number: Function = compiled.minimum if smaller else compiled.maximum
    if kind == "f16":
        number = np.fmin if smaller else np.fmax
    if "NaN" not in i.modifiers:
        return elementwise(i, floating(i, number), [kind] * 2, kind)

    def with_nan(a: Value, b: Value) -> Value:
        return np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), number(a, b))[()]

    return elementwise(i, floating(i, with_nan), [kind] * 2, kind)


@instruction("copysign")
def _copysign(i: Instruction) -> Step:
    i.only()
    return elementwise(i, lambda sign, value: np.copysign(value, sign), [i.kind] * 2, i.kind)
