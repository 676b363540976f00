"""Where the files of a data set are, and fetching those that are not there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nbconv.errors import DataError
from nbconv.typing import Array


class Download(NamedTuple):
    """A file in the net, and the MD5 sum that its publisher gives."""

    url: str
    md5: str


def find(root: Path, folders: Iterable[str], names: Iterable[str]) -> Path | None:
    """The first of the files ``names`` in the first of ``folders`` in ``root`` that has one."""
    for folder in folders:
        for name in names:
            if (path := root / folder / name).is_file():
                return path
    return None


def fetch(download: Download, folder: Path, wish: bool) -> Path:
    """Download a file into ``folder``, which is made if need be, and return its path.

    The file appears there only when it is whole and its checksum right.

    Raises:
        DataError: when it cannot be had, or nobody wished for it; the message says where to put it by hand.
    """
    name = download.url.rpartition("/")[2]
    by_hand = f"put {name} from {download.url} into {folder}"
    if not wish:
        raise DataError(f"there is no {name} in {folder}: allow the download, or {by_hand}")
    try:
        import pooch
    except ImportError:
        raise DataError(
            f"there is no {name} in {folder}, and fetching it needs pooch: "
            f'pip install "nbconv[data]", or {by_hand}'
        ) from None
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        return Path(pooch.retrieve(download.url, f"md5:{download.md5}", name, folder))
    # What a download can die of is pooch's, requests' or the system's, and the remedy is always the same.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"cannot fetch {download.url} ({reason}); {by_hand}") from error


def as_images(pixels: Array, dtype: npt.DTypeLike) -> Array:
    """Images of bytes (N, C, H, W), channels-last in memory; as floats their shares of 255.

    Raises:
        ValueError: when the dtype is none of uint8, float32 and float64.
    """
    wanted = np.dtype(dtype)
    rows = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    if wanted.kind == "f" and wanted.itemsize in (4, 8):
        rows = rows / wanted.type(255)
    elif wanted != np.uint8:
        raise ValueError(f"images come as uint8, float32 or float64, not {wanted}")
    return rows.transpose(0, 3, 1, 2)


def as_labels(labels: object, count: int, classes: int, where: str | os.PathLike[str]) -> Array:
    """``labels`` as int64 (count,).

    Raises:
        DataError: when there are more or fewer, or one is none of the classes.
    """
    try:
        # A list from a file may hold lists without end, into which NumPy would walk.
        if isinstance(labels, list) and not all(isinstance(label, int) for label in labels):
            raise TypeError("got other things")
        array = np.asarray(labels)
        if array.dtype.kind not in "iu" or array.shape != (count,):
            raise ValueError(f"got {array.dtype} {array.shape}")
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{os.fspath(where)}: expected {count} integer labels, {error}") from None
    wrong = (array < 0) | (array >= classes)
    if wrong.any():
        raise DataError(f"{os.fspath(where)}: label {array[wrong][0]} is none of the {classes} classes")
    return array.astype(np.int64)
