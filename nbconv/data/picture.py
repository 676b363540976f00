"""Opening image files with Pillow, which is loaded when the first is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from nbconv.errors import DataError
from nbconv.typing import Array, Pair

if TYPE_CHECKING:
    from PIL.Image import Image

_LARGEST_SIDE = 20_000  # pixels; keeps a wrong or hostile file from filling the memory


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Image]:
    """The picture at ``path``; what goes wrong while it is decoded in the block is a DataError.

    Raises:
        DataError: when the file is no image that Pillow can read, or Pillow is not installed.
        OSError: when the file cannot be opened.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DataError('reading images needs Pillow: pip install "nbconv[data]"') from None
    try:
        with Image.open(path) as picture:
            if max(picture.size) > _LARGEST_SIDE:
                raise DataError(f"{path}: {picture.width} x {picture.height} pixels are too many")
            yield picture
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{path}: a damaged image: {error}") from None


def in_mode(picture: Image, mode: str) -> Image:
    """``picture`` in mode "L" or "RGB", on white where it is transparent; 16 bits are scaled to 8."""
    from PIL import Image

    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        return white.convert(mode)
    if picture.mode.startswith("I"):  # convert("L") would clip, not scale
        grey = np.asarray(picture, np.float32) / np.float32(65535 / 255)
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert(mode)
    return picture.convert(mode)


def read_picture(
    path: str | os.PathLike[str], channels: int, size: Pair | None = None, shorter: int | None = None
) -> Array:
    """An image file as uint8 (channels, H, W) over channels-last memory, turned upright as its EXIF says.

    Args:
        path: an image file that Pillow can read.
        channels: 1 for greyscale or 3 for red, green and blue.
        size: height and width of the result, cut from the middle.
        shorter: pixels to which the shorter side is brought before; None brings the picture to the smallest
            size that holds the result. Resizing is bilinear, and smooths when it shrinks.

    Raises:
        DataError: when the file is no image that Pillow can read, or Pillow is not installed.
        OSError: when the file cannot be opened.
    """
    with opened(path) as file:
        from PIL import ImageOps
        from PIL.Image import Resampling

        picture = in_mode(ImageOps.exif_transpose(file), "L" if channels == 1 else "RGB")
        if size is not None:
            height, width = size
            if shorter is not None:
                factor = shorter / min(picture.size)
            else:
                factor = max(width / picture.width, height / picture.height)
            scaled = max(width, round(picture.width * factor)), max(height, round(picture.height * factor))
            if scaled != picture.size:
                picture = picture.resize(scaled, Resampling.BILINEAR)
            left, top = (picture.width - width) // 2, (picture.height - height) // 2
            picture = picture.crop((left, top, left + width, top + height))
        pixels = np.array(picture).reshape(picture.height, picture.width, channels)
    return pixels.transpose(2, 0, 1)
