"""Trees of plain values and arrays, as JSON and tensors beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbconv.typing import Array


def pack(value: Any, tensors: dict[str, Array], prefix: str) -> Any:
    """``value`` as JSON can hold it; its arrays go into ``tensors``, under names that begin with ``prefix``.

    Raises:
        TypeError: for anything but None, bool, int, float, str, arrays, and lists, tuples and dicts of those.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        name = f"{prefix}{len(tensors)}"
        tensors[name] = np.array(value, order="C")
        return {"array": name}
    if isinstance(value, list | tuple):
        return [pack(item, tensors, prefix) for item in value]
    if isinstance(value, Mapping):
        # As pairs, because keys may be numbers, which JSON would make strings.
        return {"dict": [[key, pack(item, tensors, prefix)] for key, item in value.items()]}
    raise TypeError(f"cannot save {value!r} in a checkpoint")


def unpack(value: Any, tensors: Mapping[str, Array]) -> Any:
    """What :func:`pack` was given; tuples have become lists."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        if "array" in value:
            return tensors[value["array"]]
        return {key: unpack(item, tensors) for key, item in value["dict"]}
    return value
