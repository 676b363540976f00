"""The type of vectors in kernels, and how LLVM sees it."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

INT32 = ir.IntType(32)
INT64 = ir.IntType(64)


class Vector(types.Type):
    """Numba's type of ``lanes`` numbers (or truth values) of ``dtype`` in one register."""

    def __init__(self, dtype: types.Type, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


ELEMENT = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.int32: INT32,
    types.boolean: ir.IntType(1),
}


def llvm_type(vector: Vector) -> ir.VectorType:
    """LLVM's type for a vector of that kind."""
    return ir.VectorType(ELEMENT[vector.dtype], vector.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, llvm_type(fe_type))


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector with ``scalar`` in each lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes))
