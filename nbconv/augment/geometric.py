"""Transforms that move pixels. Each gives the matrices that say where the pixels of its result come from."""

# ``move``, which all of them define, is described in transform.py.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbconv.augment.seeds import Draws
from nbconv.augment.transform import Geometric, interval, probability, within
from nbconv.errors import DataError
from nbconv.typing import Array, Pair

Range = float | Sequence[float]
"""(low, high), or a number for as far to both sides."""


def _matrices(linear: Array, shift: Array) -> Array:
    """(N, 2, 3) of (2, 2, N) and (2, N)."""
    return np.concatenate([linear, shift[:, None]], axis=1).transpose(2, 0, 1)


def _diagonal(across: Array, down: Array) -> Array:
    zero = np.zeros_like(across)
    return np.array([[across, zero], [zero, down]])


class _Flip(Geometric):
    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(self, p)

    def _signs(self, draws: Draws) -> tuple[Array, Array]:
        """-1 for the images to flip and 1 for the others, and ones."""
        flipped = draws.uniform(1)[0] < self.p
        return np.where(flipped, -1.0, 1.0), np.ones(draws.images)


class RandomHorizontalFlip(_Flip):
    """Swap left and right, with probability ``p``.

    Raises:
        ValueError: unless 0 <= p <= 1.
    """

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        signs, ones = self._signs(draws)
        return _matrices(_diagonal(signs, ones), np.zeros((2, draws.images))), size


class RandomVerticalFlip(_Flip):
    """Swap top and bottom, with probability ``p``.

    Raises:
        ValueError: unless 0 <= p <= 1.
    """

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        signs, ones = self._signs(draws)
        return _matrices(_diagonal(ones, signs), np.zeros((2, draws.images))), size


class RandomCrop(Geometric):
    """Pad images on each side, and cut out a window at a random place, by whole pixels.

    Args:
        size: of the window, an integer or (height, width); None for that of the images.
        padding: pixels on each side, an integer or (vertical, horizontal).
        padding_mode: "zeros" pads with ``fill``, "border" repeats the edge, "reflection" mirrors the image,
            the pixel at the edge included.
        fill: for "zeros".

    Raises:
        ValueError: for arguments out of range; DataError when a window is larger than the padded images.
    """

    def __init__(
        self,
        size: int | Pair | None = None,
        padding: int | Pair = 0,
        padding_mode: str = "zeros",
        fill: float = 0.0,
    ) -> None:
        self.size = None if size is None else self._pair("size", size, 1)
        self.padding = self._pair("padding", padding, 0)
        self.beyond(padding_mode, fill)

    def _pair(self, name: str, value: int | Pair, least: int) -> Pair:
        pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
        if len(pair) != 2 or not all(isinstance(number, int) and number >= least for number in pair):
            raise self.error(f"{name} must be an integer of at least {least} or two, got {value!r}")
        return pair[0], pair[1]

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        window = self.size or size
        room = [size[i] + 2 * self.padding[i] - window[i] for i in (0, 1)]
        if min(room) < 0:
            raise DataError(
                f"RandomCrop: a window of {window[0]} x {window[1]} is larger than images of {size[0]} x "
                f"{size[1]} with a padding of {self.padding}"
            )
        u = draws.uniform(2)
        # From the middle of the window to the middle of the image.
        shift = [np.floor(u[i] * (room[i] + 1)) - self.padding[i] + (window[i] - size[i]) / 2 for i in (1, 0)]
        ones = np.ones(draws.images)
        return _matrices(_diagonal(ones, ones), np.array(shift)), window


class RandomShift(Geometric):
    """Move images by up to so many pixels, not whole ones.

    Args:
        distance: pixels to each side, a number or (vertical, horizontal).
        padding_mode: what comes in, as in ``RandomCrop``.
        fill: for "zeros".

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self, distance: float | tuple[float, float], padding_mode: str = "zeros", fill: float = 0.0
    ) -> None:
        self.distance = distance
        both = tuple(distance) if isinstance(distance, tuple | list) else (distance, distance)
        if len(both) != 2 or not all(isinstance(d, int | float) and 0 <= d < np.inf for d in both):
            raise self.error(f"distance must be a number of at least 0 or two, got {distance!r}")
        self._most = np.array([[both[1]], [both[0]]], np.float64)
        self.beyond(padding_mode, fill)

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        ones = np.ones(draws.images)
        return _matrices(_diagonal(ones, ones), self._most * (2 * draws.uniform(2) - 1)), size


class RandomRescale(Geometric):
    """Enlarge or shrink images about their middle; their size stays.

    Args:
        scale: factors, (low, high), or a number for as much to both sides of 1.
        padding_mode: what lies around shrunken images, as in ``RandomCrop``.
        fill: for "zeros".

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, scale: Range, padding_mode: str = "zeros", fill: float = 0.0) -> None:
        self.scale = interval(self, "scale", scale, 1.0)
        if self.scale[0] <= 0:
            raise self.error(f"scale must be positive, got {scale!r}")
        self.beyond(padding_mode, fill)

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        steps = 1 / within(draws.uniform(1)[0], self.scale)
        return _matrices(_diagonal(steps, steps), np.zeros((2, draws.images))), size


class RandomAffine(Geometric):
    """Shear, rotate, rescale and shift images, about their middle: one general affine map.

    As torchvision's, except that shifts are not rounded to whole pixels and sampling is bilinear.

    Args:
        degrees: of rotation, clockwise where positive: (low, high), or a number for as far to both sides.
        translate: the largest shift to each side, (horizontal, vertical), as fractions of width and height.
        scale: factors, (low, high).
        shear: degrees along the rows: (low, high) or a number; four numbers add a range along the columns.
        padding_mode: what comes in, as in ``RandomCrop``.
        fill: for "zeros".

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        degrees: Range,
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: Range | None = None,
        padding_mode: str = "zeros",
        fill: float = 0.0,
    ) -> None:
        self.degrees = interval(self, "degrees", degrees)
        self.translate = (0.0, 0.0) if translate is None else translate
        if len(self.translate) != 2 or not all(0 <= fraction <= 1 for fraction in self.translate):
            raise self.error(f"translate must be two fractions in [0, 1], got {translate!r}")
        self.scale = (1.0, 1.0) if scale is None else interval(self, "scale", tuple(scale))
        if self.scale[0] <= 0:
            raise self.error(f"scale must be positive, got {scale!r}")
        both = tuple(shear) if isinstance(shear, tuple | list) and len(shear) == 4 else None
        across = interval(self, "shear", (0.0 if shear is None else shear) if both is None else both[:2])
        down = (0.0, 0.0) if both is None else interval(self, "shear", both[2:])
        self.shear = (*across, *down)
        if not all(abs(angle) < 90 for angle in self.shear):
            raise self.error(f"shear must be less than 90 degrees, got {shear!r}")
        self.beyond(padding_mode, fill)

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        u = draws.uniform(6)
        angle = np.deg2rad(within(u[0], self.degrees))
        reach = np.array([[self.translate[0] * size[1]], [self.translate[1] * size[0]]])
        shift = reach * (2 * u[1:3] - 1)
        across = np.tan(np.deg2rad(within(u[4], (self.shear[0], self.shear[1]))))
        down = np.tan(np.deg2rad(within(u[5], (self.shear[2], self.shear[3]))))
        # Shear across, shear down, rotation, scale and shift, in this order, say where a pixel goes; it comes
        # from where their inverse leads.
        cosine, sine = np.cos(angle), np.sin(angle)
        sheared = np.array([[1 + across * down, across], [down, np.ones_like(down)]])
        turned = np.array([[cosine, sine], [-sine, cosine]])
        back = np.einsum("ijn,jkn->ikn", sheared, turned) / within(u[3], self.scale)
        return _matrices(back, -np.einsum("ijn,jn->in", back, shift)), size


class RandomRotation(Geometric):
    """Rotate images about their middle; 180 degrees (pi) to both sides reach every direction.

    Args:
        degrees: counter-clockwise where positive: (low, high), or a number for as far to both sides.
        padding_mode: what comes in at the corners, as in ``RandomCrop``.
        fill: for "zeros".

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, degrees: Range, padding_mode: str = "zeros", fill: float = 0.0) -> None:
        self.degrees = interval(self, "degrees", degrees)
        self.beyond(padding_mode, fill)

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        angle = np.deg2rad(within(draws.uniform(1)[0], self.degrees))
        cosine, sine = np.cos(angle), np.sin(angle)
        return _matrices(np.array([[cosine, -sine], [sine, cosine]]), np.zeros((2, draws.images))), size
