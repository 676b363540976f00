"""Instructions that Python has no word for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda.extending import intrinsic

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.target import cuda, types, uint32

__all__ = [
    "copy_async",
    "copy_commit",
    "copy_wait",
    "load4",
    "load_matrices",
    "load_matrices_turned",
    "multiply_bf16",
    "multiply_tf32",
    "pack_bf16",
    "round_tf32",
    "shared_address",
    "store4",
    "thread_index",
]

_F32, _I32, _I64, _VOID = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.VoidType()


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


def _assembly(
    builder: Any,
    result: Any,
    kinds: list[Any],
    values: list[Any],
    text: str,
    constraints: str,
    warp: bool = False,
) -> Any:
    """One instruction as PTX text; ``warp`` if all lanes must come to it together."""
    code = ir.InlineAsm(ir.FunctionType(result, kinds), text, constraints, side_effect=True)
    return builder.call(code, values, attrs=("convergent",) if warp else ())


@intrinsic
def shared_address(typing_context: Any, array: Any, index: Any) -> Any:
    """Where an element of a shared array lies, as the instructions for shared memory count: in bytes."""
    signature = types.uint32(array, index)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _element(context, builder, signature.args[0], arguments[0], arguments[1], signature.args[1])
        shared = builder.addrspacecast(address, ir.PointerType(address.type.pointee, 3))
        return builder.ptrtoint(shared, _I32)

    return signature, generate


@intrinsic
def copy_async(typing_context: Any, to: Any, array: Any, index: Any, size: Any) -> Any:
    """Begin to copy 16 bytes from global memory to the shared address ``to``; zeros if ``size`` is 0."""
    signature = types.void(types.uint32, array, index, types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _element(context, builder, array, arguments[1], arguments[2], signature.args[2])
        text = (
            "{ .reg .u64 from; cvta.to.global.u64 from, $1; cp.async.cg.shared.global [$0], [from], 16, $2; }"
        )
        values = [arguments[0], builder.ptrtoint(address, _I64), arguments[3]]
        _assembly(builder, _VOID, [_I32, _I64, _I32], values, text, "r,l,r,~{memory}")
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def copy_commit(typing_context: Any) -> Any:
    """Make a group of the copies begun since the last one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _assembly(builder, _VOID, [], [], "cp.async.commit_group;", "~{memory}")
        return context.get_dummy_value()

    return types.void(), generate


def copy_wait(groups: int) -> Any:
    """A function for kernels: wait until of the groups made all but the last so many are there."""

    @intrinsic
    def wait(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _assembly(builder, _VOID, [], [], f"cp.async.wait_group {groups};", "~{memory}")
            return context.get_dummy_value()

        return types.void(), generate

    return wait


def _load_matrices(form: str) -> Any:
    def load(typing_context: Any, address: Any) -> Any:
        signature = types.UniTuple(types.uint32, 4)(types.uint32)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            text = f"ldmatrix.sync.aligned.m8n8.x4{form}.shared.b16 {{$0,$1,$2,$3}}, [$4];"
            four = ir.LiteralStructType([_I32] * 4)
            loaded = _assembly(builder, four, [_I32], arguments, text, "=r,=r,=r,=r,r,~{memory}", warp=True)
            parts = [builder.extract_value(loaded, i) for i in range(4)]
            return context.make_tuple(builder, signature.return_type, parts)

        return signature, generate

    return load


# Four 8 x 8 matrices of 16-bit elements as they lie, or each transposed; the warp's lanes give the shared
# addresses of their 32 rows.
load_matrices = intrinsic(_load_matrices(""))
load_matrices_turned = intrinsic(_load_matrices(".trans"))


def _multiply(shape: str, kind: str) -> Any:
    def multiply(typing_context: Any, sums: Any, at_sums: Any, a: Any, at_a: Any, b: Any, at_b: Any) -> Any:
        signature = types.void(sums, types.intp, a, types.intp, b, types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def places(argument: int, count: int) -> list[Any]:
                array = context.make_array(signature.args[argument])(context, builder, arguments[argument])
                first = arguments[argument + 1]
                return [builder.gep(array.data, [builder.add(first, first.type(i))]) for i in range(count)]

            totals = places(0, 4)
            values = [builder.load(place) for place in places(2, 4) + places(4, 2) + totals]
            result = _assembly(
                builder,
                ir.LiteralStructType([_F32] * 4),
                [_I32] * 6 + [_F32] * 4,
                values,
                f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
                "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};",
                "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
                warp=True,
            )
            for i, place in enumerate(totals):
                builder.store(builder.extract_value(result, i), place)
            return context.get_dummy_value()

        return signature, generate

    return multiply


# sums[at_sums : at_sums + 4] += a[at_a : at_a + 4] times b[at_b : at_b + 2]: a warp's fragments, in local
# arrays, of matrices 16 x 8, 16 x k and k x 8, where k is 8 for TF32 and 16 for bf16.
multiply_tf32 = intrinsic(_multiply("m16n8k8", "tf32"))
multiply_bf16 = intrinsic(_multiply("m16n8k16", "bf16"))


@intrinsic
def round_tf32(typing_context: Any, x: Any) -> Any:
    """The bits of ``x`` rounded to TF32: float32's exponent and 10 bits of its fraction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _assembly(builder, _I32, [_F32], arguments, "cvt.rna.tf32.f32 $0, $1;", "=r,f")

    return types.uint32(types.float32), generate


@intrinsic
def pack_bf16(typing_context: Any, low: Any, high: Any) -> Any:
    """The bits of two numbers rounded to bf16, ``low`` in the lower half."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = [arguments[1], arguments[0]]
        return _assembly(builder, _I32, [_F32, _F32], values, "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f")

    return types.uint32(types.float32, types.float32), generate
