"""Targets that go with the pixels of images, moved as the images are."""

from __future__ import annotations

import numpy as np

from nbconv.errors import DataError
from nbconv.typing import Array, Pair

_UNKNOWN = (
    "augment: pixels from beyond an image's edge have no label, and none to ignore is known: say which the "
    'loss ignores, Compose([...], ignore_index=-100), or take padding_mode="border" or "reflection", which '
    "repeats labels as it does pixels"
)


def follow_pixels(y: Array, size: Pair) -> bool:
    """Whether targets of images of this (height, width) are to be moved with the pixels.

    So are (N, H, W) and (N, C, H, W). Those of a whole image, (N,), (N, K) or with axes of length 1, stay.

    Raises:
        DataError: for others: nobody knows where they lie in the image.
    """
    if y.ndim in (3, 4) and y.shape[-2:] == size:
        return True
    if y.ndim <= 2 or y.shape[2:] == (1,) * (y.ndim - 2):
        return False
    raise DataError(
        f"augment: targets of shape {y.shape} cannot be moved with images of {size[0]} x {size[1]} pixels: "
        f"expected labels of images, (N,) or (N, K), or of pixels, (N, {size[0]}, {size[1]}) or "
        f"(N, C, {size[0]}, {size[1]})"
    )


def nearest_sample(
    y: Array, matrices: Array, size: Pair, padding_mode: str, ignore_index: int | None = None
) -> Array:
    """Targets (N, H, W) or (N, C, H, W) where an affine map sends the pixels of the result: of the nearest.

    Places are those of ``affine_sample``. Nothing is blended, so that labels stay labels and 0 and 1 stay so.
    Beyond the edge lie the targets at the edge ("border") or the mirror image ("reflection"); for "zeros" the
    integer labels (N, H, W) are ``ignore_index`` there, all other targets 0.

    Raises:
        DataError: where an ``ignore_index`` is needed and None is given.
    """
    height, width = y.shape[-2:]
    rows = (np.arange(size[0]) - (size[0] - 1) / 2)[:, None]
    columns = np.arange(size[1]) - (size[1] - 1) / 2
    m = matrices.astype(np.float64)[:, :, :, None, None]
    column = _nearest(m[:, 0, 0] * columns + (m[:, 0, 1] * rows + m[:, 0, 2]), width, padding_mode)
    row = _nearest(m[:, 1, 0] * columns + (m[:, 1, 1] * rows + m[:, 1, 2]), height, padding_mode)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    images = np.arange(len(y))[:, None, None]
    moved: Array = np.moveaxis(y, 1, -1) if y.ndim == 4 else y
    moved = moved[images, row.clip(0, height - 1), column.clip(0, width - 1)]
    if y.ndim == 4:
        return np.moveaxis(np.where(inside[..., None], moved, y.dtype.type(0)), -1, 1)
    if y.dtype.kind not in "iu" or inside.all():
        return np.where(inside, moved, y.dtype.type(0))
    if ignore_index is None:
        raise DataError(_UNKNOWN)
    if not np.iinfo(y.dtype).min <= ignore_index <= np.iinfo(y.dtype).max:
        moved = moved.astype(np.int64)
    return np.where(inside, moved, moved.dtype.type(ignore_index))


def _nearest(place: Array, size: int, padding_mode: str) -> Array:
    """The pixels nearest to places from the middle of an axis; "zeros" leaves those beyond the edge there."""
    index = np.floor(place + size / 2).clip(-1e9, 1e9).astype(np.int64)
    if padding_mode == "border":
        return index.clip(0, size - 1)
    if padding_mode == "reflection":
        index = index % (2 * size)
        return np.minimum(index, 2 * size - 1 - index)
    return index
