"""What a kernel may be called with: how its arguments lie in memory, and words for those that do not fit."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv_kernels.cuda.target import types

if TYPE_CHECKING:
    from nbconv_kernels.cuda.build import Kernel

__all__ = ["accepts", "check", "layout", "offsets", "pointee"]

# By Numba's name of a number, how the struct module calls it; both align it to its size.
_CODES = {
    "float32": "f",
    "float64": "d",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "uint8": "B",
    "bool": "?",
}
_POINTER = "P"
_GRID_LIMITS = (2**31 - 1, 65535, 65535)


def pointee(kind: types.Type) -> np.dtype[Any] | None:
    """The dtype of what a parameter points to; None for a number."""
    return np.dtype(str(kind.dtype)) if isinstance(kind, types.CPointer) else None


def layout(kernel: Kernel) -> struct.Struct:
    """How the arguments lie one after another, each aligned to its size, pointers as numbers."""
    return struct.Struct("@" + "".join(map(_code, kernel.argument_types)))


def offsets(kernel: Kernel) -> list[int]:
    """Where each argument lies in :func:`layout`."""
    codes = [_code(kind) for kind in kernel.argument_types]
    return [
        struct.calcsize("@" + "".join(codes[: i + 1])) - struct.calcsize(code) for i, code in enumerate(codes)
    ]


def _code(kind: types.Type) -> str:
    return _POINTER if isinstance(kind, types.CPointer) else _CODES[str(kind)]


def check(kernel: Kernel, grid: tuple[int, ...], arguments: tuple[Any, ...], on_gpu: bool) -> None:
    """Find what in a call does not fit, its arrays being on the GPU or NumPy's.

    Raises:
        TypeError: for too many or too few arguments, or for one of the wrong kind, by its name.
        ValueError: for a number that its type cannot hold, or a grid that is too large or empty.
    """
    if len(arguments) != len(kernel.parameters):
        raise TypeError(
            f"{kernel.name}: expected {len(kernel.parameters)} arguments "
            f"({', '.join(kernel.parameters)}), got {len(arguments)}"
        )
    for name, kind, value in zip(kernel.parameters, kernel.argument_types, arguments, strict=True):
        wanted = pointee(kind)
        if wanted is None:
            _check_number(f"{kernel.name}: argument {name}", kind, value)
        elif value is not None:
            _check_array(f"{kernel.name}: argument {name}", wanted, value, on_gpu)
    if not 1 <= len(grid) <= 3 or any(not 1 <= n <= m for n, m in zip(grid, _GRID_LIMITS, strict=False)):
        raise ValueError(f"{kernel.name}: a grid has 1 to {_GRID_LIMITS} blocks, got {grid}")


def _check_number(where: str, kind: types.Type, value: Any) -> None:
    try:
        struct.pack("@" + _code(kind), value)
    except (struct.error, TypeError):
        if isinstance(value, int | np.integer):
            raise ValueError(f"{where}: {kind} cannot hold {value}") from None
        raise TypeError(f"{where}: expected {kind}, got {type(value).__name__}") from None
    except OverflowError:
        raise ValueError(f"{where}: {kind} cannot hold {value}") from None


def _check_array(where: str, wanted: np.dtype[Any], value: Any, on_gpu: bool) -> None:
    dtype = getattr(value, "dtype", None)
    if not isinstance(dtype, np.dtype) or not hasattr(value, "shape"):
        raise TypeError(f"{where}: expected an array of {wanted} or None, got {type(value).__name__}")
    if not accepts(wanted, dtype):
        raise TypeError(f"{where}: expected an array of {wanted}, got one of {dtype}")
    if isinstance(value, np.ndarray) == on_gpu:
        kinds = ("one on the GPU", "a NumPy array") if on_gpu else ("a NumPy array", type(value).__name__)
        raise TypeError(f"{where}: expected {kinds[0]}, as the others are, got {kinds[1]}")


def accepts(wanted: np.dtype[Any], given: np.dtype[Any]) -> bool:
    """Whether memory of one dtype may be read as another: signs and truth values are left to the kernel."""
    if wanted == given:
        return True
    return wanted.itemsize == given.itemsize and "f" not in wanted.kind + given.kind
