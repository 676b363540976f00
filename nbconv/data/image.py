"""Reading an image file into a model's input."""

from __future__ import annotations

import os

import numpy as np

from nbconv.data.picture import in_mode, opened
from nbconv.data.resize import resize_bilinear
from nbconv.typing import Array

_GRID = 8  # the digits were scanned to 8 x 8 blocks
_INK = 0.3  # a brighter pixel belongs to the digit, not to the paper's grain
_FILLED = 0.86  # of the picture's side: a digit that long has its margins off already


def read_digit(path: str | os.PathLike[str], size: int, *, invert: bool | None = None) -> Array:
    """A picture of one digit as float32 (1, 1, size, size), prepared as the embedded digits were.

    The picture is turned to greyscale, bright ink on a dark ground, and stretched to [0, 1]; wide margins are
    cut off; it is padded to a square, averaged to 8 x 8 blocks and then resized bilinearly, as
    ``digits(size)`` does. Transparent pixels count as white.

    Args:
        path: an image file that Pillow can read.
        size: height and width of the result.
        invert: whether to swap dark and bright first. None does so when the picture's border is bright (ink
            on paper).

    Raises:
        DataError: when the file is no image that Pillow can read, or Pillow is not installed.
        OSError: when the file cannot be opened.
    """
    grey = _read_grey(path)
    if invert is None:
        border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        invert = float(np.median(border)) > 0.5
    if invert:
        np.subtract(1, grey, out=grey)
    grey = _cut_to_ink(grey)
    height, width = grey.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    weights = _box_weights(side)
    # Of the square only the picture counts, the rest is 0.
    blocks = weights[:, top : top + height] @ grey @ weights[:, left : left + width].T
    return resize_bilinear(blocks[np.newaxis, np.newaxis], size)


def _read_grey(path: str | os.PathLike[str]) -> Array:
    """The picture at ``path`` as float32 (H, W), 0 black to 1 white."""
    with opened(path) as picture:
        grey = np.array(in_mode(picture, "L"), np.float32)
    grey /= np.float32(255)
    return grey


def _cut_to_ink(grey: Array) -> Array:
    """``grey`` from 0 where it is darkest to 1 where it is brightest, without wide margins around the ink."""
    grey -= grey.min()
    brightest = grey.max()
    if brightest == 0:
        return grey
    grey /= brightest
    inked = grey > _INK
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if max(np.ptp(rows), np.ptp(columns)) + 1 > _FILLED * max(grey.shape):
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _box_weights(side: int) -> Array:
    """The (8, side) matrix that averages ``side`` pixels to 8 blocks, counting cut pixels in part."""
    edges = np.arange(_GRID + 1) * (side / _GRID)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights: Array = (np.clip(overlap, 0, None) / (side / _GRID)).astype(np.float32)
    return weights
