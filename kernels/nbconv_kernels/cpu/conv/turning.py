"""Between planes, where a channel's pixels lie side by side, and pixels, where a pixel's channels do.

For at most ``CHANNELS`` channels, a vector of pixels of each is turned in registers: written one after the
other, the vectors are a matrix (channels, pixels), and interleaving its first half with its second, three
times over, leaves (pixels, channels). Pixels of fewer channels overlap when they are stored whole, in order:
what one writes too much is the next one's.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbconv_kernels.cpu.emitter import INT1, INT32, INT64, Emitter, address_of
from nbconv_kernels.cpu.epilogue import within

CHANNELS = 8


@intrinsic
def write_pixels(
    typing_context: Any,
    planes: Any,
    at: Any,
    stride: Any,
    bias: Any,
    bounds: Any,
    out: Any,
    out_at: Any,
    channels: Any,
    count: Any,
    room: Any,
) -> Any:
    """Write ``count`` pixels of at most a vector's lanes, plus a bias and within bounds, channels last.

    ``CHANNELS`` planes are read from element ``at`` on, ``stride`` apart, and as many biases, whether or not
    there are so many ``channels``. ``room`` elements from ``out_at`` on are the caller's to write to, and
    those behind the last pixel are written anew later.
    """
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        planes, at, stride, bias, bounds, out, out_at, channels, count, room = values
        emit = Emitter(builder, signature.args[0].dtype)
        start = emit.pointer(address_of(context, builder, signature.args[0], planes, at))
        biases = emit.pointer(address_of(context, builder, signature.args[3], bias, emit.int64(0)))
        low, high = (emit.splat(builder.extract_value(bounds, i)) for i in (0, 1))
        vectors = []
        for channel in range(CHANNELS):
            value = emit.load(builder.gep(start, [builder.mul(stride, emit.int64(channel))]), 0)
            own = emit.splat(builder.load(builder.gep(biases, [emit.int64(channel)])))
            vectors.append(within(builder, low, high, builder.fadd(value, own)))
        pieces = _pieces(emit, _turned(emit, vectors))
        size = pieces[0].type.count
        target = emit.pointer(address_of(context, builder, signature.args[5], out, out_at))

        def place(piece: int) -> tuple[int, int, Any]:
            pixel, channel = piece * size // CHANNELS, piece * size % CHANNELS
            where = builder.add(builder.mul(channels, emit.int64(pixel)), emit.int64(channel))
            pointer = builder.bitcast(builder.gep(target, [where]), pieces[0].type.as_pointer())
            return pixel, channel, pointer

        extent = builder.add(builder.mul(channels, emit.int64(emit.lanes - 1)), emit.int64(CHANNELS))
        with builder.if_else(builder.icmp_signed(">=", room, extent)) as (whole, careful):
            with whole:
                for piece, value in enumerate(pieces):
                    builder.store(value, place(piece)[2], align=emit.size)
            with careful:
                for piece, value in enumerate(pieces):
                    pixel, channel, pointer = place(piece)
                    own = builder.sub(channels, emit.int64(channel))
                    there = builder.icmp_signed("<", emit.int64(pixel), count)
                    _store_first(emit, value, pointer, builder.select(there, own, emit.int64(0)))
        return context.get_dummy_value()

    return types.void(planes, i, i, bias, bounds, out, i, i, i, i), codegen


def _turned(emit: Emitter, vectors: list[Any]) -> list[Any]:
    """The matrix whose rows are vectors, (channels, pixels), turned."""
    low = [lane // 2 + emit.lanes * (lane % 2) for lane in range(emit.lanes)]
    orders = [
        ir.Constant(ir.VectorType(INT32, emit.lanes), [i + s for i in low]) for s in (0, emit.lanes // 2)
    ]
    half = CHANNELS // 2
    for _ in range(CHANNELS.bit_length() - 1):
        vectors = [
            emit.builder.shuffle_vector(vectors[row], vectors[row + half], order)
            for row in range(half)
            for order in orders
        ]
    return vectors


def _pieces(emit: Emitter, vectors: list[Any]) -> list[Any]:
    """The vectors cut into pieces of one pixel, if they hold more."""
    if emit.lanes <= CHANNELS:
        return vectors
    return [
        emit.builder.shuffle_vector(
            vector,
            vector,
            ir.Constant(ir.VectorType(INT32, CHANNELS), list(range(first, first + CHANNELS))),
        )
        for vector in vectors
        for first in range(0, emit.lanes, CHANNELS)
    ]


def _store_first(emit: Emitter, value: Any, pointer: Any, count: Any) -> None:
    """Store the first ``count`` lanes."""
    lanes = value.type.count
    counts = emit.splat(count, ir.VectorType(INT64, lanes))
    mask = emit.builder.icmp_signed("<", ir.Constant(counts.type, list(range(lanes))), counts)
    function = cgutils.get_or_insert_function(
        emit.builder.module,
        ir.FunctionType(ir.VoidType(), [value.type, pointer.type, INT32, ir.VectorType(INT1, lanes)]),
        f"llvm.masked.store.v{lanes}f{8 * emit.size}.p0",
    )
    emit.builder.call(function, [value, pointer, ir.Constant(INT32, emit.size), mask])
