"""Instructions that Python has no word for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda.extending import intrinsic

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.target import cuda, types, uint32

__all__ = ["load4", "store4", "thread_index"]

_I32 = ir.IntType(32)


@device_function
def thread_index() -> Any:
    """The thread's number in the whole grid."""
    return uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.x) + uint32(cuda.threadIdx.x))


def _element(context: Any, builder: Any, kind: Any, array: Any, index: Any, index_kind: Any) -> Any:
    """The address of an element of an array or of what a pointer points to."""
    base = (
        array if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, array).data
    )
    return builder.gep(base, [context.cast(builder, index, index_kind, types.uintp)])


def _quad(address: Any) -> Any:
    """The address of an element as one of four elements."""
    return ir.VectorType(address.type.pointee, 4).as_pointer(address.type.addrspace)


@intrinsic
def load4(typing_context: Any, array: Any, index: Any) -> Any:
    """Four 32-bit neighbours ``array[index : index + 4]`` in one access, at a multiple of 16 bytes."""
    signature = types.UniTuple(array.dtype, 4)(array, index)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _element(context, builder, signature.args[0], arguments[0], arguments[1], signature.args[1])
        value = builder.load(builder.bitcast(address, _quad(address)))
        value.align = 16
        parts = [builder.extract_element(value, _I32(i)) for i in range(4)]
        return context.make_tuple(builder, signature.return_type, parts)

    return signature, generate


@intrinsic
def store4(typing_context: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """``array[index : index + 4] = a, b, c, d`` in one access; the address must be a multiple of 16 bytes."""
    signature = types.void(array, index, *[array.dtype] * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _element(context, builder, signature.args[0], arguments[0], arguments[1], signature.args[1])
        value = ir.Constant(_quad(address).pointee, ir.Undefined)
        for i in range(4):
            value = builder.insert_element(value, arguments[2 + i], _I32(i))
        builder.store(value, builder.bitcast(address, _quad(address))).align = 16
        return context.get_dummy_value()

    return signature, generate
