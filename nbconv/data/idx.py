"""Reading IDX files, the format of MNIST and its successors."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import IO

import numpy as np

from nbconv.errors import DataError
from nbconv.typing import Array, Shape

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20  # bytes; a header that lies about the size asks for no more memory than the file fills


def read_idx(path: str | os.PathLike[str], *, limit: int = 1 << 30) -> Array:
    """The array in an IDX file, gzipped or not, in this machine's byte order.

    Such a file is two bytes 0, a byte for the type, a byte for the number of dimensions, each dimension as a
    big-endian 32-bit integer, and the numbers, big-endian, the last dimension fastest.

    Args:
        path: of the file.
        limit: bytes that a gzipped file may unpack to; a few can be a thousand times as many.

    Raises:
        DataError: when the file is no such file, is damaged, is cut short or unpacks to more.
        OSError: when it cannot be read.

    Source: the description of the MNIST database by LeCun, Cortes and Burges.
    """
    with open(path, "rb") as file:
        zipped = file.read(2) == _GZIP
        file.seek(0)
        try:
            if not zipped:
                return _read(file, path)
            with gzip.open(file) as unzipped:
                return _read(unzipped, path, limit)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{os.fspath(path)}: a damaged gzip file: {error}") from None


def _read(file: IO[bytes] | gzip.GzipFile, path: str | os.PathLike[str], limit: float = math.inf) -> Array:
    where = os.fspath(path)
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
        raise DataError(f"{where}: not an IDX file: it begins with {head!r}")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{where}: cut short in the header")
    shape: Shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    dtype = np.dtype(_TYPES[head[2]])
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > limit:
        raise DataError(f"{where}: an array of shape {shape} has {wanted:,} bytes, the limit is {limit:,}")
    content = bytearray()
    while len(content) <= wanted and (chunk := file.read(min(_CHUNK, wanted + 1 - len(content)))):
        content += chunk
    if len(content) != wanted:
        has = "more" if len(content) > wanted else f"only {len(content):,}"
        raise DataError(
            f"{where}: {wanted:,} bytes are due to an array of shape {shape}, but there are {has}"
        )
    try:
        array = np.frombuffer(content, dtype).reshape(shape)
    except ValueError as error:  # of more dimensions than NumPy has, or empty and yet too long
        raise DataError(f"{where}: {error}") from None
    return array.astype(dtype.newbyteorder("="), copy=False)
