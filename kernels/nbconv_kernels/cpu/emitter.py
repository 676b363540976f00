"""Writing LLVM IR on vectors, which is what the intrinsics of this backend are made of.

Numba decides by itself how a Python loop uses registers. Where speed hangs on it, an intrinsic spells the
loop out in LLVM's intermediate representation instead; this class holds the words for it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from nbconv_kernels.cpu.simd import SIMD

INT1 = ir.IntType(1)
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)
_FLAGS = ("contract", "reassoc", "nsz")


class Emitter:
    """Writes vector IR for one element type."""

    def __init__(self, builder: Any, element: Any) -> None:
        double = element == types.float64
        self.builder = builder
        self.size = 8 if double else 4
        self.lanes = SIMD.lanes(self.size)
        self.element = ir.DoubleType() if double else ir.FloatType()
        self.vector = ir.VectorType(self.element, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.size}"

    def int64(self, value: int) -> Any:
        """An integer constant."""
        return ir.Constant(INT64, value)

    def pointer(self, address: Any) -> Any:
        """An address as a pointer to elements."""
        return self.builder.inttoptr(address, self.element.as_pointer())

    def load(self, pointer: Any, offset: int) -> Any:
        """The vector ``offset`` elements behind ``pointer``."""
        at = self.builder.gep(pointer, [self.int64(offset)])
        return self.builder.load(self.builder.bitcast(at, self.vector.as_pointer()), align=self.size)

    def store(self, value: Any, pointer: Any, offset: int) -> None:
        """Store a vector ``offset`` elements behind ``pointer``."""
        at = self.builder.gep(pointer, [self.int64(offset)])
        self.builder.store(value, self.builder.bitcast(at, self.vector.as_pointer()), align=self.size)

    def masked_load(self, pointer: Any, offset: int, mask: Any) -> Any:
        """Load those lanes of a vector that ``mask`` holds true; the others are zero and not read."""
        source = self.vector.as_pointer()
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.vector, [source, INT32, mask.type, self.vector]),
            f"llvm.masked.load.{self.suffix}.p0",
        )
        at = self.builder.bitcast(self.builder.gep(pointer, [self.int64(offset)]), source)
        zeros = ir.Constant(self.vector, None)
        return self.builder.call(function, [at, ir.Constant(INT32, self.size), mask, zeros])

    def masked_store(self, value: Any, pointer: Any, offset: int, mask: Any) -> None:
        """Store those lanes of a vector that ``mask`` holds true."""
        target = self.vector.as_pointer()
        mask_type = ir.VectorType(INT1, self.lanes)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.VoidType(), [self.vector, target, INT32, mask_type]),
            f"llvm.masked.store.{self.suffix}.p0",
        )
        at = self.builder.bitcast(self.builder.gep(pointer, [self.int64(offset)]), target)
        self.builder.call(function, [value, at, ir.Constant(INT32, self.size), mask])

    def prefetch(self, pointer: Any, vectors: int, offset: int = 0, write: bool = False) -> None:
        """Bring the lines of ``vectors`` vectors, ``offset`` elements behind ``pointer``, to the L2 cache."""
        byte = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32]),
            "llvm.prefetch.p0",
        )
        hints = [ir.Constant(INT32, value) for value in (int(write), 2, 1)]  # to write, L2, data
        for vector in range(vectors):
            at = self.builder.gep(pointer, [self.int64(offset + vector * self.lanes)])
            self.builder.call(function, [self.builder.bitcast(at, byte), *hints])

    def lane_mask(self, count: Any, first: int) -> Any:
        """True in the lanes whose column, from ``first`` on, is below ``count``."""
        counts = self.splat(count, ir.VectorType(INT64, self.lanes))
        columns = ir.Constant(ir.VectorType(INT64, self.lanes), list(range(first, first + self.lanes)))
        return self.builder.icmp_signed("<", columns, counts)

    def splat(self, scalar: Any, vector: Any | None = None) -> Any:
        """A vector of one scalar in all lanes."""
        vector = vector or self.vector
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``: one rounding where the CPU has the instruction, else whatever it has."""
        if not SIMD.fused:
            product = self.builder.fmul(a, b, flags=_FLAGS)
            return self.builder.fadd(product, c, flags=_FLAGS)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.vector, [self.vector, self.vector, self.vector]),
            f"llvm.fma.{self.suffix}",
        )
        return self.builder.call(function, [a, b, c])

    def total(self, vector: Any) -> Any:
        """The sum of a vector's lanes, in any order."""
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.element, [self.element, self.vector]),
            f"llvm.vector.reduce.fadd.{self.suffix}",
        )
        return self.builder.call(function, [ir.Constant(self.element, 0), vector], fastmath=("reassoc",))

    def step(self, a: list[Any], b: Any, accumulators: list[list[Any]]) -> list[list[Any]]:
        """One step of the product: element pointers of each row, pointer to a row of ``b``."""
        vectors = [self.load(b, v * self.lanes) for v in range(len(accumulators[0]))]
        result = []
        for pointer, row in zip(a, accumulators, strict=True):
            scalar = self.splat(self.builder.load(pointer))
            result.append([self.multiply_add(scalar, vectors[v], row[v]) for v in range(len(row))])
        return result

    def phis(self, values: list[list[Any]], block: Any) -> list[list[Any]]:
        """A phi node for each accumulator, with the values it has on arrival from ``block``."""
        nodes = []
        for row in values:
            nodes.append([self.builder.phi(self.vector) for _ in row])
            for node, value in zip(nodes[-1], row, strict=True):
                node.add_incoming(value, block)
        return nodes

    @staticmethod
    def arrive(nodes: list[list[Any]], values: list[list[Any]], block: Any) -> None:
        """The values the phi ``nodes`` have on arrival from ``block``."""
        for node_row, value_row in zip(nodes, values, strict=True):
            for node, value in zip(node_row, value_row, strict=True):
                node.add_incoming(value, block)


def address_of(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of element ``index`` of a 1-D contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.ptrtoint(builder.gep(data, [index]), INT64)
