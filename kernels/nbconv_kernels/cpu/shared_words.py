"""A row of 64-bit words that all threads share, and the atomic operations on them.

Compiled code finds the row by its name (``_SYMBOL``), looked up when the code is loaded: so no address of a
process gets into what is kept on disk. A word is given by its number. Each operation is one of LLVM's,
sequentially consistent: all threads see all of them in one order, which "I sleep unless there is work" and
"there is work: wake who sleeps" need to find each other.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbconv_kernels.cpu.memory import Array, aligned_empty

LINE = 8  # words of a cache line; what different threads write lies on lines of its own

_SYMBOL = "nbconv_shared_words"
_ORDER = "seq_cst"
_INT64 = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
# What tells a CPU that a loop only waits, by how the names of its kind begin.
_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.hint", (1,))}
_PAUSES["arm64"] = _PAUSES["aarch64"]


def make_words(count: int) -> Array:
    """The row, ``count`` zeros; there is one in a process, made before any code that uses it is loaded."""
    words = aligned_empty(count, np.int64)
    words[:] = 0
    # Threads look at it until the process ends, which is later than Python does.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(words))
    llvm.add_symbol(_SYMBOL, words.__array_interface__["data"][0])
    return words


def _at(context: Any, builder: Any, index: Any) -> Any:
    return builder.gep(context.get_c_value(builder, _INT64, _SYMBOL), [index])


@intrinsic
def address_of(typing_context: Any, index: Any) -> Any:
    """Where a word lies in memory."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(_at(context, builder, values[0]), _INT64)

    return types.int64(types.int64), codegen


@intrinsic
def load(typing_context: Any, index: Any) -> Any:
    """The word."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_at(context, builder, values[0]), _ORDER, 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typing_context: Any, index: Any, value: Any) -> Any:
    """Set the word."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _at(context, builder, values[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(typing_context: Any, index: Any, value: Any) -> Any:
    """Add to the word; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _at(context, builder, values[0]), values[1], _ORDER)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def replace(typing_context: Any, index: Any, old: Any, new: Any) -> Any:
    """Set the word to ``new`` if it is ``old``; whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        done = builder.cmpxchg(_at(context, builder, values[0]), values[1], values[2], _ORDER, _ORDER)
        return builder.extract_value(done, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typing_context: Any) -> Any:
    """Do nothing for a moment, and let the other thread of the core have it."""
    name, numbers = _PAUSES.get(llvm.get_process_triple().partition("-")[0], ("", ()))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if name:
            arguments = [ir.Constant(ir.IntType(32), number) for number in numbers]
            kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call_task(typing_context: Any, callback: Any, task: Any, data: Any) -> Any:
    """Call the C function at an address: ``void callback(int64 task, void *data)``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_INT64, _BYTES])
        function = builder.inttoptr(values[0], kind.as_pointer())
        builder.call(function, [values[1], builder.inttoptr(values[2], _BYTES)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen
