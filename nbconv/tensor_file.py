"""Safetensors files.

Eight bytes, little-endian, are the length of the header, a JSON object: under each name of a tensor its
dtype, shape and place (``data_offsets``), under ``__metadata__`` texts by name. The rest is the tensors'
numbers, without gaps. All of that is looked at before anything is made of it: no file takes much more memory
than its size.

The format's own library is not used: for NumPy it knows no bfloat16, it writes to a path of its own choice,
so neither to a pipe nor whole or not at all, and what goes wrong it says in exceptions of its own.

Source: the format's description, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from nbconv.errors import CheckpointError
from nbconv.files import whole_file
from nbconv.typing import Array, Shape

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}
_KINDS = {np.dtype(kind): name for name, kind in _TYPES.items() if name != "BF16"}
_LONGEST_HEADER = 100_000_000  # bytes, by the format's description
_METADATA = "__metadata__"


class _Place(NamedTuple):
    """Where a tensor is: its type, and where its numbers begin and end behind the header."""

    name: str
    dtype: str
    shape: Shape
    begin: int
    end: int


def read_metadata(path: str | os.PathLike[str]) -> Mapping[str, str]:
    """The metadata of a safetensors file, without its tensors.

    Raises:
        CheckpointError: if it is none, or damaged.
        OSError: if it cannot be read.
    """
    with open(os.fspath(path), "rb") as file:
        return _header(file, path)[0]


def read(path: str | os.PathLike[str]) -> tuple[Mapping[str, str], dict[str, Array]]:
    """The metadata and the tensors of a safetensors file; bfloat16 becomes float32, which holds it exactly.

    Raises:
        CheckpointError: if it is none, is damaged, or holds numbers of a type that NumPy lacks.
        OSError: if it cannot be read.
    """
    with open(os.fspath(path), "rb") as file:
        metadata, places = _header(file, path)
        for place in places:
            if place.dtype not in _TYPES:
                known = ", ".join(_TYPES)
                raise CheckpointError(
                    f"{os.fspath(path)}: {reprlib.repr(place.name)} is of type "
                    f"{reprlib.repr(place.dtype)}; nbconv reads {known}"
                )
        return metadata, {place.name: _numbers(file, path, place) for place in places}


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a file, whole or not at all, straight from the arrays: see :mod:`nbconv.files`.

    Raises:
        OSError: if it cannot be written.
        TypeError: for an array of a type that the format does not know.
    """
    # Those of the widest numbers first, so that each array is aligned to its numbers.
    named = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name, array in named:
        kind = _KINDS.get(array.dtype.newbyteorder("<"))
        if kind is None:
            raise TypeError(f"cannot save {name!r}, an array of {array.dtype}, in a checkpoint")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, array in named:
            ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            stream.write(ordered.reshape(-1).view(np.uint8).data)


def _header(file: IO[bytes], path: str | os.PathLike[str]) -> tuple[dict[str, str], list[_Place]]:
    """The metadata, and the tensors in the order they lie in; the file stands behind the header."""
    try:
        size = os.fstat(file.fileno()).st_size - 8
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size, _LONGEST_HEADER):
            raise ValueError(f"a header of {length:,} bytes in a file of {size + 8:,}")
        header = json.loads(file.read(length).decode())
        if not isinstance(header, dict):
            raise ValueError("the header is no table")
        metadata = header.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("the metadata are no texts by name")
        places = sorted((_place(name, entry) for name, entry in header.items()), key=lambda at: at[3:])
        end = 0
        for place in places:
            if place.begin != end:
                raise ValueError(f"{reprlib.repr(place.name)} begins at {place.begin:,}, not at {end:,}")
            end = place.end
        if end != size - length:
            raise ValueError(f"its tensors have {end:,} bytes, there are {size - length:,}")
        return metadata, places
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{os.fspath(path)} is damaged, cut short or no safetensors file: {error}"
        ) from None


def _place(name: str, entry: Any) -> _Place:
    """What the header says of a tensor.

    Raises:
        ValueError: if that makes no sense.
    """
    said = reprlib.repr(name)
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{said} has no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{said} has a dtype, shape or data_offsets of a wrong kind")
    begin, end = offsets
    known = dtype not in _TYPES or math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize == end - begin
    if end < begin or not known:
        raise ValueError(f"{said}, {dtype} of shape {reprlib.repr(shape)}, has no {end - begin:,} bytes")
    return _Place(name, dtype, tuple(shape), begin, end)


def _are_counts(value: Any) -> bool:
    """Whether something is a list of sizes: of no more than NumPy has dimensions."""
    return (
        isinstance(value, list)
        and len(value) <= 64
        and all(type(count) is int and 0 <= count < 1 << 63 for count in value)
    )


def _numbers(file: IO[bytes], path: str | os.PathLike[str], place: _Place) -> Array:
    """The numbers of a tensor, with which the file goes on."""
    flat = np.empty(place.end - place.begin, np.uint8)
    if file.readinto(flat) != len(flat):  # type: ignore[attr-defined]
        raise CheckpointError(f"{os.fspath(path)} was cut short while it was read")
    kind = np.dtype(_TYPES[place.dtype])
    try:
        array = flat.view(kind).reshape(place.shape)
    except ValueError as error:  # more dimensions than NumPy has, or empty and yet too long
        raise CheckpointError(f"{os.fspath(path)}: {reprlib.repr(place.name)}: {error}") from None
    if place.dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(kind.newbyteorder("="), copy=False)
