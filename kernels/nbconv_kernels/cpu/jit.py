"""How CPU kernels are compiled, cached and run on several threads.

``@kernel`` is ``numba.njit`` with the project's settings. A product and a sum may become one fused operation,
but no flag assumes NaN or infinity away, and sums are not reordered: LLVM compiles a loop twice, in vectors
and one by one, and takes the second where arrays lie too close together to tell apart. Both must round alike.

``parallel_for(body, n_tasks, n_threads, args)`` calls ``body(task, *args)`` for every task on our own threads
(``workers``). It does what ``prange`` does with a quarter of the compile time (0.1 s instead of 0.5 s a
kernel), as it skips Numba's array-expression analysis: the body is an ordinary kernel, and all that is
generated is a function for one task. Tasks are numbered, so a kernel that splits its work by task number
gives the same bits whichever thread runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbconv_kernels.cpu import cache, workers
from nbconv_kernels.cpu.dispatch import KernelDispatcher

FASTMATH = {"contract", "nsz"}

_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile ``function`` lazily, without the GIL, and keep the machine code on disk.

    Kernels are inlined into the kernels that call them. Otherwise a callee would exist twice, in its own
    library and in its caller's; both are right, but they may round differently, and the process that compiles
    would run the one, later processes the other.
    """
    options = {"nopython": True, "nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
    compiled = KernelDispatcher(function, {**options, "forceinline": True, "no_cfunc_wrapper": True})
    cache.enable(compiled)
    return compiled


@intrinsic
def parallel_for(typing_context: Any, body: Any, n_tasks: Any, n_threads: Any, args: Any) -> Any:
    """Call ``body(task, *args)`` for task = 0 .. n_tasks - 1 on ``n_threads`` threads (in order on one).

    Raises:
        MemoryError: when a body failed; the only error a kernel body can meet is a failed allocation.
    """
    dispatcher = body.dispatcher
    plain = types.unliteral(args)  # a constant is an argument like others: one form of the body serves all
    body_types = (types.intp, *plain)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, task_count, thread_count, arguments = values
        arguments = context.cast(builder, arguments, signature.args[3], plain)
        task_count = context.cast(builder, task_count, signature.args[1], types.intp)
        thread_count = context.cast(builder, thread_count, signature.args[2], types.intp)
        result = dispatcher.get_compile_result(types.void(*body_types))
        context.active_code_library.add_linking_library(result.library)
        module = builder.module

        shared_type = ir.LiteralStructType([arguments.type, _INT32])
        callback_type = ir.FunctionType(ir.VoidType(), [_INT64, _BYTES])
        callback = ir.Function(module, callback_type, module.get_unique_name("task"))
        callback.linkage = "internal"
        inner = ir.IRBuilder(callback.append_basic_block("entry"))
        task = callback.args[0]
        shared = inner.bitcast(callback.args[1], shared_type.as_pointer())
        unpacked = inner.load(cgutils.gep_inbounds(inner, shared, 0, 0))
        failed = cgutils.gep_inbounds(inner, shared, 0, 1)
        target = context.declare_function(module, result.fndesc)
        fields = [inner.extract_value(unpacked, i) for i in range(len(plain))]
        status, _ = context.call_conv.call_function(inner, target, types.none, body_types, [task, *fields])
        with cgutils.if_unlikely(inner, status.is_error):
            inner.store(ir.Constant(_INT32, 1), failed)
        inner.ret_void()

        state = cgutils.alloca_once(builder, shared_type)
        builder.store(arguments, cgutils.gep_inbounds(builder, state, 0, 0))
        failed = cgutils.gep_inbounds(builder, state, 0, 1)
        builder.store(ir.Constant(_INT32, 0), failed)
        data = builder.bitcast(state, _BYTES)
        run_type = ir.FunctionType(ir.VoidType(), [_INT64] * 4)
        run = cgutils.get_or_insert_function(module, run_type, workers.RUN)
        # One task, or one thread, needs nothing atomic, and leaves the optimiser a plain loop.
        serial = builder.or_(
            builder.icmp_signed("<=", thread_count, ir.Constant(_INT64, 1)),
            builder.icmp_signed("<=", task_count, ir.Constant(_INT64, 1)),
        )
        with builder.if_else(serial) as (here, together):
            with here, cgutils.for_range(builder, task_count, intp=_INT64) as loop:
                builder.call(callback, [loop.index, data])
            with together:
                entry, address = (builder.ptrtoint(pointer, _INT64) for pointer in (callback, data))
                builder.call(run, [entry, task_count, thread_count, address])
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, builder.load(failed))):
            context.call_conv.return_user_exc(
                builder, MemoryError, ("a kernel could not allocate its scratch",)
            )
        return context.get_dummy_value()

    return types.void(body, n_tasks, n_threads, args), codegen


_threads: int | None = None


def set_num_threads(n: int) -> None:
    """Let CPU kernels use ``n`` threads, 1 to ``numba.config.NUMBA_NUM_THREADS``.

    Raises:
        ValueError: when ``n`` is not in that range.
    """
    global _threads
    limit = numba.config.NUMBA_NUM_THREADS
    if not 1 <= n <= limit:
        raise ValueError(f"set_num_threads: expected 1 to {limit} (NUMBA_NUM_THREADS) threads, got {n}")
    _threads = n
    workers.count_cpus()


def get_num_threads() -> int:
    """The number of threads that CPU kernels use; it decides how sums are split, and so the last bits."""
    return numba.config.NUMBA_NUM_THREADS if _threads is None else _threads


def threading_layer() -> str:
    """Whose threads run kernels: nbconv's own (``workers``), whichever of Numba's is asked for."""
    return "nbconv"
