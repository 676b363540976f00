"""Comparisons: ordered ones are false where an operand is NaN, unordered ones (``ltu``, ...) true."""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Mask
from nbconv_kernels.cuda.emulator.instructions.registry import (
    Function,
    Step,
    elementwise,
    flushed,
    instruction,
)
from nbconv_kernels.cuda.emulator.operands import reader, writer
from nbconv_kernels.cuda.emulator.program import Instruction, Label, Pair
from nbconv_kernels.cuda.emulator.types import DTYPES, Value

_COMPARISONS: dict[str, Function] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "equ": lambda a, b: ~(np.less(a, b) | np.greater(a, b)),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~np.greater_equal(a, b),
    "leu": lambda a, b: ~np.greater(a, b),
    "gtu": lambda a, b: ~np.less_equal(a, b),
    "geu": lambda a, b: ~np.less(a, b),
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}
_COMBINE: dict[str, Function] = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _comparison(i: Instruction) -> Function:
    name = i.modifiers[0]
    if name not in _COMPARISONS:
        raise i.unknown(f"its comparison .{name}")
    function = _COMPARISONS[name]
    if name == "ne" and i.kind[0] == "f":
        function = lambda a, b: np.less(a, b) | np.greater(a, b)  # noqa: E731
    if "ftz" in i.modifiers:
        exact = function
        return lambda a, b: exact(flushed(a), flushed(b))
    return function


@instruction("setp")
def _setp(i: Instruction) -> Step:
    i.only("ftz", *_COMPARISONS, *_COMBINE)
    compare, kind = _comparison(i), i.kind
    combined = i.modifiers[1] if i.modifiers[1] in _COMBINE else None
    first = i.operands[0].first if isinstance(i.operands[0], Pair) else i.operands[0]
    second = i.operands[0].second if isinstance(i.operands[0], Pair) else Label("_")
    a, b = reader(i.operands[1], kind), reader(i.operands[2], kind)
    write, write_other = writer(first, "pred"), writer(second, "pred")
    if combined is None and second == Label("_"):
        return lambda batch, mask: write(batch, compare(a(batch), b(batch)), mask)
    combine = _COMBINE[combined] if combined else _first
    c = reader(i.operands[3], "pred") if combined else b

    def step(batch: Batch, mask: Mask) -> None:
        result, other = compare(a(batch), b(batch)), c(batch)
        write(batch, combine(result, other), mask)
        write_other(batch, combine(~result, other), mask)

    return step


def _first(result: Value, _: Value) -> Value:
    return result


@instruction("set")
def _set(i: Instruction) -> Step:
    i.only("ftz", *_COMPARISONS)
    result, kind = i.kinds
    compare = _comparison(i)
    # Hardware's "true" is all bits in an integer and 1 in a number.
    true = DTYPES[result].type(1) if result[0] == "f" else ~DTYPES[result].type(0)

    def numeric(a: Value, b: Value) -> Value:
        return np.where(compare(a, b), true, true ^ true if result[0] != "f" else true - true)[()]

    return elementwise(i, numeric, [kind] * 2, result)


@instruction("testp")
def _testp(i: Instruction) -> Step:
    kind = i.kind
    tiny = np.finfo(DTYPES[kind]).tiny
    tests: dict[str, Function] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda x: ~np.isnan(x),
        "notanumber": np.isnan,
        "normal": lambda x: np.isfinite(x) & (np.abs(x) >= tiny),
        "subnormal": lambda x: (x != 0) & (np.abs(x) < tiny),
    }
    i.only(*tests)
    return elementwise(i, tests[i.modifiers[0]], [kind], "pred")
