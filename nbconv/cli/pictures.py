"""Picture files as the images that a model was trained on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nbconv import data
from nbconv.data.folder import pictures_in
from nbconv.data.picture import read_picture
from nbconv.errors import DataError
from nbconv.typing import Array

_SIDES = {"mnist": 28, "fashion_mnist": 28, "cifar10": 32, "cifar100": 32}


class Images(NamedTuple):
    """What a model's images are.

    Attributes:
        data: the name of their data set, which decides on how they are prepared, or any other text.
        channels: 1 or 3.
        size: height and width.
        resize: pixels that the shorter side has before the middle is cut out; None for as few as hold it.
    """

    data: str
    channels: int
    size: int
    resize: int | None = None


def read(path: str | os.PathLike[str], images: Images, invert: bool | None = None) -> Array:
    """A picture file as float32 (1, C, size, size), prepared as the model's training images were.

    Args:
        path: in a format that Pillow reads.
        images: what the model takes.
        invert: swap dark and bright. None does so for a bright-bordered picture where training images are
            bright on a dark ground.

    Raises:
        DataError: when the file is no image that Pillow can read, or Pillow is not installed.
        OSError: when the file cannot be opened.
    """
    if images.data == "digits":
        return data.read_digit(path, images.size, invert=invert)
    side = _SIDES.get(images.data)
    if side is None:
        shorter = images.resize
        pixels = read_picture(path, images.channels, (images.size, images.size), shorter)
        return _bright_on_dark(pixels, bool(invert))
    pixels = read_picture(path, images.channels, (side, side))
    if images.channels == 1 and invert is None:
        border = np.concatenate([pixels[0, 0], pixels[0, -1], pixels[0, :, 0], pixels[0, :, -1]])
        invert = float(np.median(border)) > 127
    image = _bright_on_dark(pixels, bool(invert))
    margin, odd = divmod(images.size - side, 2)
    if images.channels == 1 and margin >= 0 and not odd:
        return np.pad(image, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    return data.resize_bilinear(image, images.size)


def files(given: Iterable[Path]) -> list[Path]:
    """The files that are named, and the pictures in the folders that are.

    Raises:
        DataError: for a folder that has no pictures.
    """
    found: list[Path] = []
    for path in given:
        inside = pictures_in(path) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"there are no pictures in {path}")
        found += inside
    return found


def _bright_on_dark(pixels: Array, invert: bool) -> Array:
    shares: Array = pixels[np.newaxis] / np.float32(255)
    return 1 - shares if invert else shares
