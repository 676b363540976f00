"""The transforms of Winograd's F(4 x 4, 3 x 3), vectors over channels, as intrinsics.

A tile of 4 x 4 outputs needs 6 x 6 inputs. With U = G g G^T and V = B^T d B, both 6 x 6,

    y = A^T [U * V] A        one multiplication a point: 36 instead of 144 for the 16 outputs

and the gradients run the same road backwards: dM = A dy A^T, dg = G^T [dM * V] G. Points 0, +-1, +-2,
infinity:

          4  0 -5  0  1  0            1/4     0     0          1 1  1 1  1 0
          0 -4 -4  1  1  0           -1/6  -1/6  -1/6          0 1 -1 2 -2 0
    B^T = 0  4 -4 -1  1  0       G = -1/6   1/6  -1/6    A^T = 0 1  1 4  4 0
          0 -2 -1  2  1  0           1/24  1/12   1/6          0 1 -1 8 -8 1
          0  2 -1 -2  1  0           1/24 -1/12   1/6
          0  4  0 -5  0  1              0     0     1

Each transform below is one such matrix applied to columns, then to rows, of a square of vectors, with the
common terms computed once. Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbconv_kernels.cpu.emitter import INT64, Emitter, address_of
from nbconv_kernels.cpu.epilogue import finished

Vectors = list[Any]

# Where sums of squares begin: so they are no subnormal numbers, of which some CPUs are slow.
_TINY = 2.0**-100


class _Algebra:
    """Sums and multiples of vectors."""

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit
        self.add = emit.builder.fadd
        self.sub = emit.builder.fsub

    def constant(self, value: float) -> Any:
        return ir.Constant(self.emit.vector, [value] * self.emit.lanes)

    def multiple(self, factor: float, x: Any) -> Any:
        return self.emit.builder.fmul(self.constant(factor), x)

    def plus_multiple(self, y: Any, factor: float, x: Any) -> Any:
        """The sum ``y + factor * x``."""
        return self.emit.multiply_add(self.constant(factor), x, y)


def _input(a: _Algebra, d: Vectors) -> Vectors:
    """B^T d."""
    p, q = a.plus_multiple(d[4], -4.0, d[2]), a.plus_multiple(d[3], -4.0, d[1])
    r, s = a.sub(d[4], d[2]), a.multiple(2.0, a.sub(d[3], d[1]))
    return [
        a.plus_multiple(a.plus_multiple(d[4], -5.0, d[2]), 4.0, d[0]),
        *(a.add(p, q), a.sub(p, q), a.add(r, s), a.sub(r, s)),
        a.plus_multiple(a.plus_multiple(d[5], -5.0, d[3]), 4.0, d[1]),
    ]


def _output(a: _Algebra, m: Vectors) -> Vectors:
    """A^T m."""
    s, d, t, u = a.add(m[1], m[2]), a.sub(m[1], m[2]), a.add(m[3], m[4]), a.sub(m[3], m[4])
    return [
        a.add(a.add(m[0], s), t),
        a.plus_multiple(d, 2.0, u),
        a.plus_multiple(s, 4.0, t),
        a.add(a.plus_multiple(d, 8.0, u), m[5]),
    ]


def _output_gradient(a: _Algebra, y: Vectors) -> Vectors:
    """A y."""
    even, odd = a.add(y[0], y[2]), a.add(y[1], y[3])
    g, h = a.plus_multiple(y[0], 4.0, y[2]), a.multiple(2.0, a.plus_multiple(y[1], 4.0, y[3]))
    return [y[0], a.add(even, odd), a.sub(even, odd), a.add(g, h), a.sub(g, h), y[3]]


def _weight(a: _Algebra, g: Vectors) -> Vectors:
    """G g."""
    even = a.multiple(-1 / 6, a.add(g[0], g[2]))
    p = a.plus_multiple(a.multiple(1 / 6, g[2]), 1 / 24, g[0])
    return [
        a.multiple(1 / 4, g[0]),
        a.plus_multiple(even, -1 / 6, g[1]),
        a.plus_multiple(even, 1 / 6, g[1]),
        a.plus_multiple(p, 1 / 12, g[1]),
        a.plus_multiple(p, -1 / 12, g[1]),
        g[2],
    ]


def _weight_gradient(a: _Algebra, u: Vectors) -> Vectors:
    """G^T u."""
    s, d, t, v = a.add(u[1], u[2]), a.sub(u[2], u[1]), a.add(u[3], u[4]), a.sub(u[3], u[4])
    low = a.multiple(-1 / 6, s)
    return [
        a.plus_multiple(a.plus_multiple(low, 1 / 24, t), 1 / 4, u[0]),
        a.plus_multiple(a.multiple(1 / 6, d), 1 / 12, v),
        a.add(a.plus_multiple(low, 1 / 6, t), u[5]),
    ]


def _square(
    emit: Emitter,
    transform: Callable[[_Algebra, Vectors], Vectors],
    load: Callable[[int, int], Any],
    size: int,
) -> list[Vectors]:
    """``transform`` along both axes of ``size`` x ``size`` vectors."""
    algebra = _Algebra(emit)
    columns = [transform(algebra, [load(row, column) for row in range(size)]) for column in range(size)]
    return [transform(algebra, [column[row] for column in columns]) for row in range(len(columns[0]))]


def _over_channels(emit: Emitter, channels: Any, body: Callable[[Any], None]) -> None:
    """Run ``body(channel)`` for the first channel of every vector."""
    with cgutils.for_range_slice(
        emit.builder, emit.int64(0), channels, emit.int64(emit.lanes), intp=INT64
    ) as (channel, _):
        body(channel)


def _through_table(transform: Callable[[_Algebra, Vectors], Vectors], size: int, doc: str) -> Any:
    """An intrinsic that reads a square of pixels through a table of addresses."""

    @intrinsic
    def transform_pixels(
        typing_context: Any,
        pixels: Any,
        first: Any,
        channels: Any,
        out: Any,
        out_at: Any,
        point_stride: Any,
    ) -> Any:
        i = types.intp

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pixels, first, channels, out, out_at, point_stride = values
            emit = Emitter(builder, signature.args[3].dtype)
            table = context.make_array(signature.args[0])(context, builder, pixels).data
            base = emit.pointer(address_of(context, builder, signature.args[3], out, out_at))
            tiny = ir.Constant(emit.vector, [_TINY] * emit.lanes)
            energies = [cgutils.alloca_once_value(builder, tiny) for _ in range((size // 2) ** 2)]

            def body(channel: Any) -> None:
                def load(row: int, column: int) -> Any:
                    where = builder.load(builder.gep(table, [emit.int64(row * size + column)]))
                    pixel = emit.load(builder.gep(emit.pointer(where), [builder.add(first, channel)]), 0)
                    energy = energies[row // 2 * (size // 2) + column // 2]
                    builder.store(emit.multiply_add(pixel, pixel, builder.load(energy)), energy)
                    return pixel

                square = _square(emit, transform, load, size)
                for row, vectors in enumerate(square):
                    for column, vector in enumerate(vectors):
                        at = builder.mul(point_stride, emit.int64(row * len(square) + column))
                        emit.store(vector, builder.gep(base, [builder.add(at, channel)]), 0)

            _over_channels(emit, channels, body)
            totals = [emit.total(builder.load(energy)) for energy in energies]
            return context.make_tuple(builder, signature.return_type, totals)

        return types.UniTuple(out.dtype, (size // 2) ** 2)(pixels, i, i, out, i, i), codegen

    transform_pixels.__doc__ = doc
    return transform_pixels


transform_input = _through_table(
    _input,
    6,
    """36 input pixels -> V, of ``channels`` from ``first`` on: point p of the i-th to
    ``out[out_at + p * point_stride + i]``. The result are the energies, sums of squares, of the tile's
    cells of 2 x 2 pixels, row by row.""",
)
transform_output_gradient = _through_table(
    _output_gradient, 4, "16 output-gradient pixels -> dM: as ``transform_input``."
)


@intrinsic
def transform_output(
    typing_context: Any,
    products: Any,
    products_at: Any,
    point_stride: Any,
    channels: Any,
    bias: Any,
    pixels: Any,
    finish: Any,
) -> Any:
    """M -> 16 output pixels, at the addresses in ``pixels``, plus the bias and after a finish."""
    i = types.intp

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        products, products_at, point_stride, channels, bias, pixels, finish = values
        emit = Emitter(builder, signature.args[0].dtype)
        base = emit.pointer(address_of(context, builder, signature.args[0], products, products_at))
        bias_at = emit.pointer(address_of(context, builder, signature.args[4], bias, emit.int64(0)))
        table = context.make_array(signature.args[5])(context, builder, pixels).data

        def body(channel: Any) -> None:
            def load(row: int, column: int) -> Any:
                at = builder.mul(point_stride, emit.int64(row * 6 + column))
                return emit.load(builder.gep(base, [builder.add(at, channel)]), 0)

            start = emit.load(builder.gep(bias_at, [channel]), 0)
            sums = [
                [builder.fadd(vector, start) for vector in row] for row in _square(emit, _output, load, 6)
            ]

            def target(row: int, column: int) -> Any:
                where = builder.load(builder.gep(table, [emit.int64(row * 4 + column)]))
                return builder.gep(emit.pointer(where), [channel])

            results = finished(emit, finish, sums, lambda *place: emit.load(target(*place), 0))
            for row, vectors in enumerate(results):
                for column, vector in enumerate(vectors):
                    emit.store(vector, target(row, column), 0)

        _over_channels(emit, channels, body)
        return context.get_dummy_value()

    return types.void(products, i, i, i, bias, pixels, finish), codegen


def _between_points(transform: Callable[[_Algebra, Vectors], Vectors], size: int, doc: str) -> Any:
    """An intrinsic from one set of points to another, each a stride apart."""

    @intrinsic
    def transform_points(
        typing_context: Any,
        source: Any,
        source_at: Any,
        source_stride: Any,
        channels: Any,
        out: Any,
        out_at: Any,
        out_stride: Any,
    ) -> Any:
        i = types.intp

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            source, source_at, source_stride, channels, out, out_at, out_stride = values
            emit = Emitter(builder, signature.args[0].dtype)
            origin = emit.pointer(address_of(context, builder, signature.args[0], source, source_at))
            target = emit.pointer(address_of(context, builder, signature.args[4], out, out_at))

            def body(channel: Any) -> None:
                def load(row: int, column: int) -> Any:
                    at = builder.mul(source_stride, emit.int64(row * size + column))
                    return emit.load(builder.gep(origin, [builder.add(at, channel)]), 0)

                square = _square(emit, transform, load, size)
                for row, vectors in enumerate(square):
                    for column, vector in enumerate(vectors):
                        at = builder.mul(out_stride, emit.int64(row * len(square) + column))
                        emit.store(vector, builder.gep(target, [builder.add(at, channel)]), 0)

            _over_channels(emit, channels, body)
            return context.get_dummy_value()

        return types.void(source, i, i, i, out, i, i), codegen

    transform_points.__doc__ = doc
    return transform_points


transform_weight = _between_points(_weight, 3, "9 taps of weights -> the 36 points of U.")
transform_weight_gradient = _between_points(_weight_gradient, 6, "36 points of dU -> 9 taps of dg.")
