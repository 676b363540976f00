"""Kernels that only show what the machine can do: multiply-adds in registers, and a copy.

The first runs as many independent sums as the product's tile has, so that none waits for another and nothing
is read. The second is what memory, or the cache that holds both arrays, gives at most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbconv_kernels.cpu.emitter import INT64, Emitter, address_of
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, empty
from nbconv_kernels.cpu.simd import SIMD
from nbconv_kernels.cpu.tasks import share

_SUMS = SIMD.rows * SIMD.vectors


def multiply_add(steps: int) -> float:
    """Multiply and add float32 in registers, ``steps`` times in each sum of each thread.

    Returns:
        How many floating-point operations that were: two a lane, sum and step.
    """
    threads, lanes = get_num_threads(), SIMD.lanes(4)
    _peak(empty((threads * lanes,), np.dtype(np.float32)), lanes, steps, threads, get_num_threads())
    return 2.0 * steps * _SUMS * lanes * threads


def copy(source: Array, target: Array) -> None:
    """Copy one row of float32 to another as long, on all threads."""
    _copy(get_num_threads(), get_num_threads(), source, target)


@intrinsic
def _multiply_add_only(typing_context: Any, out: Any, at: Any, steps: Any) -> Any:
    """``steps`` times ``sum = sum * 0.5 + 1`` for every accumulator; their total goes to ``out``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        out, at, steps = values
        emit = Emitter(builder, signature.args[0].dtype)
        factor, term = (emit.splat(ir.Constant(emit.element, value)) for value in (0.5, 1.0))
        starts = [[emit.splat(ir.Constant(emit.element, float(i))) for i in range(_SUMS)]]
        entry = builder.block
        loop, done = builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(loop)

        builder.position_at_end(loop)
        k = builder.phi(INT64)
        k.add_incoming(emit.int64(0), entry)
        sums = emit.phis(starts, entry)
        result = [[emit.multiply_add(value, factor, term) for value in sums[0]]]
        emit.arrive(sums, result, loop)
        following = builder.add(k, emit.int64(1))
        k.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)

        builder.position_at_end(done)
        total = result[0][0]
        for value in result[0][1:]:
            total = builder.fadd(total, value)
        emit.store(total, emit.pointer(address_of(context, builder, signature.args[0], out, at)), 0)
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp), codegen


@kernel
def _peak_task(task, out, lanes, steps):
    _multiply_add_only(out, task * lanes, steps)


@kernel
def _peak(out, lanes, steps, n_tasks, n_threads):
    parallel_for(_peak_task, n_tasks, n_threads, (out, lanes, steps))


@kernel
def _copy_task(task, n_tasks, source, target):
    first, last = share(len(source), task, n_tasks)
    part, into = source[first:last], target[first:last]
    for i in range(len(part)):
        into[i] = part[i]


@kernel
def _copy(n_tasks, n_threads, source, target):
    parallel_for(_copy_task, n_tasks, n_threads, (n_tasks, source, target))
