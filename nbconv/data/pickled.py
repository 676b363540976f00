"""Reading pickles of plain data and arrays without running code from them.

A pickle is a program for a small machine with a stack. Python's own machine calls whatever function it names,
and takes the memory that it asks for. This one knows what plain data need, calls nothing, and does work in
proportion to the file: it builds what the program says and looks into none of it again. A list may thus hold
itself, or the same list a thousand times over, until somebody walks it.
"""

from __future__ import annotations

import pickletools
import reprlib
from typing import Any, TypeVar

import numpy as np

from nbconv.errors import DataError
from nbconv.typing import Array

_ARRAY_NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.numeric _frombuffer": "buffer",  # how protocol 5 writes arrays
    "numpy._core.numeric _frombuffer": "buffer",
    "numpy ndarray": "class",
    "numpy dtype": "dtype",
    "_codecs encode": "bytes",  # how Python 3 writes bytes so that Python 2 can read them
}
_AS_THEY_ARE = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_DTYPES = {"u1": np.uint8, "i8": np.int64, "i4": np.int32}
_T = TypeVar("_T")
_DAMAGES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def read_dict(content: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a pickle of Python 2 or 3, its keys as text, byte strings in it as they are.

    Lists in it are as the pickle has made them, perhaps without end: look at items before you walk into them.

    Raises:
        DataError: when it is something else, is damaged, or holds more than plain data and arrays of
            integers; the message begins with ``where``.
    """
    try:
        found = _Machine(content).run()
        if not isinstance(found, dict):
            raise ValueError(f"expected a dictionary, got {type(found).__name__}")
        return {_text(key): _array(v) if isinstance(v, _Noted) else v for key, v in found.items()}
    except _DAMAGES as error:
        raise DataError(f"{where}: a pickle that is damaged or not wanted here: {error}") from None


class _Name:
    """A function or class that a pickle names."""

    def __init__(self, name: str) -> None:
        if name not in _ARRAY_NAMES:
            raise ValueError(f"it asks for {reprlib.repr(name.replace(' ', '.'))}")
        self.kind = _ARRAY_NAMES[name]


class _Noted:
    """What a pickle said of an array or of its type: the arguments of the call, and the state."""

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None


class _Machine:
    """The stack, the places marked on it, and what was put aside."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0  # bytes made of text

    def run(self) -> Any:
        """What the program leaves on the stack."""
        for opcode, argument, _ in pickletools.genops(self._content):
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        match name:
            case "PROTO" | "FRAME":
                pass
            case _ if name in _AS_THEY_ARE:
                stack.append(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":  # Python 2's, of bytes
                stack.append(argument.encode("latin1"))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_CONSTANTS[name])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                self._marks.append(len(stack))
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append(_EMPTY[name]())
            case "LIST":
                stack.append(self._popped())
            case "TUPLE":
                stack.append(tuple(self._popped()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._popped(int(name[-1]))))
            case "DICT":
                stack.append(_paired({}, self._popped()))
            case "APPEND" | "APPENDS":
                items = self._popped(1 if name == "APPEND" else None)
                _of(list, stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._popped(2 if name == "SETITEM" else None)
                _paired(_of(dict, stack[-1]), items)
            case "GLOBAL":
                stack.append(_Name(argument))
            case "STACK_GLOBAL":
                stack.append(_Name(" ".join(self._popped(2))))
            case "REDUCE":
                stack.append(self._called(*self._popped(2)))
            case "BUILD":
                (state,) = self._popped(1)
                _of(_Noted, stack[-1]).state = state
            case _:
                raise ValueError(f"plain data need no {name}")

    def _popped(self, count: int | None = None) -> list[Any]:
        """The last items, taken off the stack: so many, or those behind the last mark."""
        start = self._marks.pop() if count is None else len(self._stack) - count
        if start < (self._marks[-1] if self._marks and count is not None else 0):
            raise ValueError("it takes more from the stack than there is")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _called(self, function: Any, arguments: Any) -> Any:
        kind, arguments = _of(_Name, function).kind, _of(tuple, arguments)
        if kind == "class":
            raise ValueError("it makes an array by its class")
        if kind != "bytes":
            return _Noted(kind, arguments)
        # Each text becomes bytes once: time and again, they would be more than the file.
        encoded = _of(str, arguments[0]).encode("latin1")
        self._encoded += len(encoded)
        if self._encoded > len(self._content):
            raise ValueError("it makes more bytes than it has")
        return encoded


def _of(kind: type[_T], value: Any) -> _T:
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} where {kind.__name__} is due")
    return value


def _paired(table: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """``table`` with every second item by the one before it; keys of other kinds may take long to hash."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes | int):
            raise ValueError(f"{type(key).__name__} as a key")
        table[key] = value
    return table


def _array(noted: _Noted) -> Array:
    if noted.kind == "buffer":
        content, dtype, shape, order = noted.arguments
        fortran = order == "F"
    else:
        _, shape, dtype, fortran, content = _of(tuple, noted.state)
    kind = _DTYPES[_text(_of(_Noted, dtype).arguments[0]).lstrip("<|")]
    if dtype.state is not None and _text(dtype.state[1]) == ">":
        raise ValueError("a big-endian array")
    sizes = [_of(int, size) for size in _of(tuple, shape)]
    return np.frombuffer(content, kind).reshape(sizes, order="F" if fortran else "C")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(_of(str, value))
