"""Tables of addresses: many arrays handed to a kernel as one argument.

An array argument costs a Numba call 0.2 us, and a list of arrays far more. A step of an optimiser touches
hundreds of arrays, so it passes their addresses as numbers. Whoever makes a table keeps the arrays alive
while it is in use.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.memory import Array, check_float


@intrinsic
def array_at(typing_context: Any, address: Any, first: Any, count: Any, like: Any) -> Any:
    """``count`` elements of the type of ``like`` from element ``first`` of the array at ``address`` on."""
    result = types.Array(like, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        element = context.get_data_type(like)
        start = builder.gep(builder.inttoptr(values[0], element.as_pointer()), [values[1]])
        size = ir.Constant(ir.IntType(64), like.bitwidth // 8)
        array = context.make_array(result)(context, builder)
        populate_array(array, start, [values[2]], [size], size, None)
        return array._getvalue()

    return result(types.int64, types.int64, types.int64, like), codegen


@kernel
def _address(row):
    return row.ctypes.data


class Table(NamedTuple):
    """Addresses of arrays that belong together, and where each one stands in a long row of them all."""

    dtype: np.dtype[Any]
    addresses: Array  # int64 (lists, parameters)
    starts: Array  # int64 (parameters + 1,): the first element of each parameter, then the number of all
    alive: list[Sequence[Array]]  # the arrays behind the addresses

    @property
    def elements(self) -> int:
        """How many elements all parameters have."""
        return int(self.starts[-1])


def address_tables(
    op: str, params: Sequence[Array], grads: Sequence[Array], **states: Sequence[Array] | None
) -> list[Table]:
    """Tables of parameters, gradients and those states that are not None: one for each dtype of parameters.

    Raises:
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
        ValueError: if lists or shapes do not fit, or a parameter or state is read-only or not C-contiguous.
    """
    kept = {name: arrays for name, arrays in states.items() if arrays is not None}
    for name, arrays in {"grads": grads, **kept}.items():
        if len(arrays) != len(params):
            raise ValueError(f"{op}: expected {len(params)} arrays in {name}, got {len(arrays)}")
    if not params:
        return []
    own = _lasting(op, "params", params, params, None)
    if own.dtype is not None:
        addresses, copies = _addresses(op, "grads", grads, params)
        rows = [own.addresses, addresses]
        rows += [_lasting(op, name, arrays, params, own.starts).addresses for name, arrays in kept.items()]
        return [Table(own.dtype, np.array(rows), own.starts, [params, copies, *kept.values()])]
    tables = []
    for dtype in {param.dtype for param in params}:

        def chosen(arrays: Sequence[Array], dtype: Any = dtype) -> list[Array]:
            return [array for array, param in zip(arrays, params, strict=True) if param.dtype == dtype]

        parts = {name: chosen(arrays) for name, arrays in kept.items()}
        tables += address_tables(op, chosen(params), chosen(grads), **parts)
    return tables


class _Known(NamedTuple):
    references: list[weakref.ref[Array]]
    addresses: Array
    starts: Array  # of the parameters whose shapes the arrays have
    dtype: np.dtype[Any] | None  # None where it is not the same for all


# Parameters and states are the same arrays at each step: theirs are looked up once.
_known: dict[tuple[int, int, int], _Known] = {}
_MOST_KNOWN = 256


def _lasting(
    op: str, name: str, arrays: Sequence[Array], params: Sequence[Array], starts: Array | None
) -> _Known:
    """Addresses of arrays updated in place; ``starts`` is that of ``params``, None for these themselves."""
    key = (len(arrays), id(arrays[0]), id(arrays[-1]))
    known = _known.get(key)
    if (
        known is not None
        and (starts is None or known.starts is starts)
        and all(reference() is array for reference, array in zip(known.references, arrays, strict=True))
    ):
        return known
    addresses, _ = _addresses(op, name, arrays, params)
    for index, array in enumerate(arrays):
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(f"{op}: expected {name}[{index}] to be C-contiguous and writeable")
    if starts is None:
        starts = np.cumsum([0, *(param.size for param in params)], dtype=np.int64)
    dtypes = {array.dtype for array in arrays}
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    known = _Known(
        list(map(weakref.ref, arrays)), addresses, starts, dtypes.pop() if len(dtypes) == 1 else None
    )
    _known[key] = known
    return known


def _addresses(
    op: str, name: str, arrays: Sequence[Array], params: Sequence[Array]
) -> tuple[Array, list[Array]]:
    """Addresses of the arrays, or of copies where they are not C-contiguous; and what must stay alive."""
    addresses, rows = [], []
    for param, array in zip(params, arrays, strict=True):
        if getattr(array, "shape", None) != param.shape or array.dtype is not param.dtype or array is param:
            _check(op, name, len(rows), array, param)
        row = array.reshape(-1)
        addresses.append(_address(row))
        rows.append(row)
    return np.array(addresses, np.int64), rows


def _check(op: str, name: str, index: int, array: Array, param: Array) -> None:
    check_float(op, param, array)
    if array.shape != param.shape:
        raise ValueError(f"{op}: expected {name}[{index}] of shape {param.shape}, got shape {array.shape}")
