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

from nbconv_kernels.cpu.emitter import INT32, INT64, Emitter, address_of
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


@intrinsic
def read_pixels(
    typing_context: Any,
    pixels: Any,
    at: Any,
    stride: Any,
    channels: Any,
    count: Any,
    planes: Any,
    to: Any,
    plane_stride: Any,
) -> Any:
    """The reverse: ``count`` pixels, ``stride`` elements apart, of at most ``CHANNELS`` channels, to planes.

    A vector is written to each plane, zero behind the pixels that are counted.
    """
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pixels, at, stride, channels, count, planes, to, plane_stride = values
        emit = Emitter(builder, signature.args[0].dtype)
        start = emit.pointer(address_of(context, builder, signature.args[0], pixels, at))
        size = min(emit.lanes, CHANNELS)
        vector = ir.VectorType(emit.element, size)
        pieces = []
        for piece in range(CHANNELS * emit.lanes // size):
            pixel, channel = piece * size // CHANNELS, piece * size % CHANNELS
            # A pixel that is not there is the first one again: it is zero in the end.
            there = builder.icmp_signed("<", emit.int64(pixel), count)
            where = builder.select(there, builder.mul(stride, emit.int64(pixel)), emit.int64(0))
            pointer = builder.gep(start, [builder.add(where, emit.int64(channel))])
            pointer = builder.bitcast(pointer, vector.as_pointer())
            pieces.append(_load_first(emit, pointer, builder.sub(channels, emit.int64(channel))))
        target = emit.pointer(address_of(context, builder, signature.args[5], planes, to))
        counted = emit.lane_mask(count, 0)
        for channel, vector in enumerate(_turned_back(emit, _joined(emit, pieces))):
            with builder.if_then(builder.icmp_signed("<", emit.int64(channel), channels)):
                value = builder.select(counted, vector, ir.Constant(emit.vector, None))
                emit.store(value, builder.gep(target, [builder.mul(plane_stride, emit.int64(channel))]), 0)
        return context.get_dummy_value()

    return types.void(pixels, i, i, i, i, planes, i, i), codegen


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


def _turned_back(emit: Emitter, vectors: list[Any]) -> list[Any]:
    """What ``_turned`` gave, as it was: in each round, every other element goes to the second half."""
    order_type = ir.VectorType(INT32, emit.lanes)
    orders = [ir.Constant(order_type, [2 * lane + odd for lane in range(emit.lanes)]) for odd in (0, 1)]
    for _ in range(CHANNELS.bit_length() - 1):
        vectors = [
            emit.builder.shuffle_vector(vectors[row], vectors[row + 1], order)
            for order in orders
            for row in range(0, CHANNELS, 2)
        ]
    return vectors


def _joined(emit: Emitter, pieces: list[Any]) -> list[Any]:
    """Pieces of one pixel as vectors, which may hold two."""
    if emit.lanes <= CHANNELS:
        return pieces
    order = ir.Constant(ir.VectorType(INT32, emit.lanes), list(range(emit.lanes)))
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    return [emit.builder.shuffle_vector(one, other, order) for one, other in pairs]


def _masked(emit: Emitter, what: str, vector: Any, result: Any, parameters: list[Any]) -> Any:
    name = f"llvm.masked.{what}.v{vector.count}f{8 * emit.size}.p0"
    return cgutils.get_or_insert_function(emit.builder.module, ir.FunctionType(result, parameters), name)


def _mask(emit: Emitter, count: Any, lanes: int) -> Any:
    counts = emit.splat(count, ir.VectorType(INT64, lanes))
    return emit.builder.icmp_signed("<", ir.Constant(counts.type, list(range(lanes))), counts)


def _store_first(emit: Emitter, value: Any, pointer: Any, count: Any) -> None:
    """Store the first ``count`` lanes."""
    mask = _mask(emit, count, value.type.count)
    parameters = [value.type, pointer.type, INT32, mask.type]
    function = _masked(emit, "store", value.type, ir.VoidType(), parameters)
    emit.builder.call(function, [value, pointer, ir.Constant(INT32, emit.size), mask])


def _load_first(emit: Emitter, pointer: Any, count: Any) -> Any:
    """Load the first ``count`` lanes; the others are zero."""
    vector = pointer.type.pointee
    mask = _mask(emit, count, vector.count)
    function = _masked(emit, "load", vector, vector, [pointer.type, INT32, mask.type, vector])
    zeros = ir.Constant(vector, None)
    return emit.builder.call(function, [pointer, ir.Constant(INT32, emit.size), mask, zeros])
