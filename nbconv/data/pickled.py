"""Reading pickles of plain data and arrays without running code from them.

A pickle is a program: it may name any function and have it called. This reader knows five names, those of an
array of NumPy, and puts in their place functions of its own that only note what they are given.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from nbconv.errors import DataError
from nbconv.typing import Array

_ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "class",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",  # how Python 3 writes bytes so that Python 2 can read them
}
_MOST_TUPLES = 64  # an array has six; without end, one in the other, they would overflow the stack as keys
_DTYPES = {"u1": np.uint8, "i8": np.int64, "i4": np.int32}
_DAMAGES = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
)


def read_dict(content: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a pickle of Python 2 or 3, its keys as text, byte strings in it as they are.

    Raises:
        DataError: when it is something else, is damaged, or holds more than plain data and arrays of
            integers; the message begins with ``where``.
    """
    try:
        tuples = sum(opcode.name.startswith("TUPLE") for opcode, _, _ in pickletools.genops(content))
        if tuples > _MOST_TUPLES:
            raise pickle.UnpicklingError(f"{tuples} are more tuples than an array needs")
        found = _Reader(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"expected a dictionary, got {type(found).__name__}")
        return {_text(key): _unwrapped(value) for key, value in found.items()}
    except _DAMAGES as error:
        raise DataError(f"{where}: a pickle that is damaged or not wanted here: {error}") from None


class _Noted:
    """What a pickle said of an array or of its type."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        kind = _ARRAY_NAMES.get((module, name))
        if kind is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        if kind == "class":
            return None
        # New ones for each pickle, which could change those it is given.
        note: Callable[..., Any] = lambda *arguments: _Noted(*arguments)  # noqa: E731
        encode: Callable[..., Any] = lambda text, encoding: text.encode("latin1")  # noqa: E731
        return encode if kind == "bytes" else note


def _unwrapped(value: Any) -> Any:
    return _array(value) if isinstance(value, _Noted) else value


def _array(noted: _Noted) -> Array:
    _, shape, dtype, fortran, content = noted.state
    kind = _DTYPES[_text(dtype.arguments[0]).lstrip("<|")]
    if dtype.state is not None and _text(dtype.state[1]) == ">":
        raise ValueError("a big-endian array")
    return np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
