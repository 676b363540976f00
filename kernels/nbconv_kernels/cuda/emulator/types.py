"""PTX's types as NumPy's, and what one lane's registers and addresses look like in arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "DTYPES",
    "GLOBAL",
    "LOCAL_WINDOW",
    "SHARED_WINDOW",
    "Array",
    "Value",
    "poison",
    "unsigned",
    "width",
]

Array = np.ndarray[Any, Any]
Value = Any
"""One number for each lane of a batch, or one NumPy scalar that all of them hold."""

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "pred": np.bool_,
        "b8": np.uint8,
        "u8": np.uint8,
        "s8": np.int8,
        "b16": np.uint16,
        "u16": np.uint16,
        "s16": np.int16,
        "f16": np.float16,
        "b32": np.uint32,
        "u32": np.uint32,
        "s32": np.int32,
        "f32": np.float32,
        "b64": np.uint64,
        "u64": np.uint64,
        "s64": np.int64,
        "f64": np.float64,
    }.items()
}

GLOBAL = 1 << 46
"""Where global memory begins; arrays lie so far apart that no index error leads from one to another."""

SHARED_WINDOW = 1 << 60
LOCAL_WINDOW = 1 << 61
"""Where shared and local memory begin among generic addresses."""


def width(kind: str) -> int:
    """Bytes of a type."""
    return DTYPES[kind].itemsize


def unsigned(kind: str) -> np.dtype[Any]:
    """The dtype of a type's bits."""
    return np.dtype(f"u{width(kind)}")


def poison(kind: str) -> Value:
    """What a register holds before it is written: all bits set, a NaN in a floating-point one."""
    if kind == "pred":
        return np.bool_(False)
    bits = unsigned(kind).type(np.iinfo(unsigned(kind)).max)
    return bits.view(DTYPES[kind])
