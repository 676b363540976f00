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

_LARGEST_SIDE = 20_000
_MOST_PIXELS = 1 << 26
"""Against files that would fill the memory: a PNG of one colour takes a thousandth of what its pixels do.
To read one as large as this takes 700 MiB at most."""
_BAND = 1 << 20  # pixels that are converted at once
_FORMATS = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "PCX",
    "PNG",
    "PPM",
    "TGA",
    "TIFF",
    "WEBP",
)
"""Those of pictures. Pillow reads PostScript too, by running another program on it."""
_WHITE = {"I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535, "I": 65535, "F": 1}
"""The brightest value of modes with more than 8 bits, which convert("L") would clip, not scale."""
_STEPS = {"L;2": 255 // 3, "L;4": 255 // 15}  # between the values of few bits, once Pillow has read them


class _UnsuitableError(ValueError):
    """A whole picture that is of no use here."""


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
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    with open(path, "rb") as file:
        try:
            with Image.open(file, formats=known) as picture:
                _check_size(picture)
                _correct_transparency(picture)
                yield picture
        except _UnsuitableError as error:
            raise DataError(f"{path}: {error}") from None
        except UnidentifiedImageError:
            raise DataError(f"{path}: not an image that Pillow can read") from None
        # What a decoder dies of on a damaged file is anything.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise DataError(f"{path}: a damaged image: {reason}") from error


def _check_size(picture: Image) -> None:
    width, height = picture.size
    if max(width, height) > _LARGEST_SIDE or width * height > _MOST_PIXELS:
        raise _UnsuitableError(f"{width} x {height} pixels are too many")
    if not width * height:
        raise _UnsuitableError(f"{width} x {height} pixels are none")


def _correct_transparency(picture: Image) -> None:
    """Tell of a PNG's transparent colour as Pillow reads the pixels, not as the file holds them."""
    if picture.format == "PNG" and "transparency" in picture.info:
        kind = picture.tile[0][3]  # type: ignore[attr-defined]
        if kind in _STEPS:
            picture.info["transparency"] *= _STEPS[kind]
        if kind == "RGB;16B":
            raise _UnsuitableError(
                "one of 2^48 colours is transparent, and Pillow reads the upper half of each"
            )


def in_mode(picture: Image, mode: str) -> Image:
    """``picture``, as :func:`opened` gives it, in mode "L" or "RGB", on white where it is transparent.

    More than 8 bits are scaled to 8. What is no share of white, whole numbers outside of 0 to 65,535 and
    others outside of 0 to 1, becomes a DataError.
    """
    from PIL import Image

    if picture.mode not in _WHITE and not picture.has_transparency_data:
        # From CIE LAB Pillow knows one way.
        return (picture.convert("RGB") if picture.mode == "LAB" else picture).convert(mode)
    # In bands: what lies between the picture and the result takes several times their memory.
    result, rows = Image.new(mode, picture.size), max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        grey = _grey(band) if picture.mode in _WHITE else _on_white(band)
        result.paste(grey.convert(mode), (0, top))
    return result


def _on_white(picture: Image) -> Image:
    from PIL import Image

    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    return white


def _grey(picture: Image) -> Image:
    """A picture of one channel of more than 8 bits in 8; white where it is transparent."""
    from PIL import Image

    white = _WHITE[picture.mode]
    values = np.asarray(picture)
    if not ((values >= 0) & (values <= white)).all():
        raise _UnsuitableError(
            f"{values.dtype} pixels from {values.min()} to {values.max()} are not of 0 to {white}"
        )
    grey = (values.astype(np.float32) / np.float32(white / 255)).round().astype(np.uint8)
    if "transparency" in picture.info:
        grey[values == picture.info["transparency"]] = 255
    return Image.fromarray(grey)


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

        ImageOps.exif_transpose(file, in_place=True)
        picture = in_mode(file, "L" if channels == 1 else "RGB")
        if size is not None:
            height, width = size
            if shorter is not None:
                factor = shorter / min(picture.size)
            else:
                factor = max(width / picture.width, height / picture.height)
            scaled = max(width, round(picture.width * factor)), max(height, round(picture.height * factor))
            # Only the box that is kept is resized: of a long strip the rest would be millions of pixels.
            left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
            across, down = picture.width / scaled[0], picture.height / scaled[1]
            box = left * across, top * down, (left + width) * across, (top + height) * down
            picture = picture.resize((width, height), Resampling.BILINEAR, box)
        pixels = np.array(picture).reshape(picture.height, picture.width, channels)
    return pixels.transpose(2, 0, 1)
