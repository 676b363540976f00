"""Transforms that change the values of pixels where they are."""

# ``change``, which all of them define, is described in transform.py.
# ruff: noqa: D102

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from nbconv.augment.geometric import Range
from nbconv.augment.seeds import Draws
from nbconv.augment.transform import Transform, interval, probability, within
from nbconv.errors import DataError
from nbconv.typing import Array


class GaussianNoise(Transform):
    """Add normal noise, to each pixel and channel its own; values are not cut to any range.

    Args:
        sigma: standard deviation, or (low, high) to draw one for each image.

    Raises:
        ValueError: for a negative sigma.
    """

    def __init__(self, sigma: Range = 0.1) -> None:
        self.sigma = interval(self, "sigma", sigma if isinstance(sigma, tuple | list) else (sigma, sigma))
        if self.sigma[0] < 0:
            raise self.error(f"sigma must be at least 0, got {sigma!r}")

    def change(self, ops: ModuleType, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        std = within(draws.uniform(1)[0], self.sigma)
        return ops.gaussian_noise(x, std, draws.seed, draws.place), y


class ColorJitter(Transform):
    """Change brightness, contrast and saturation, in this order, of grey or RGB images.

    Args:
        brightness: factors, (low, high), or a number for as much to both sides of 1, but not below 0.
        contrast: likewise; 0 leaves the mean grey of the image.
        saturation: likewise; 0 leaves the grey of each pixel. Grey images have none to change.
        bounds: values are cut to these, unless they are None.

    Raises:
        ValueError: for arguments out of range; DataError for images that are neither grey nor RGB.
    """

    def __init__(
        self,
        brightness: Range = 0.0,
        contrast: Range = 0.0,
        saturation: Range = 0.0,
        bounds: tuple[float, float] | None = (0.0, 1.0),
    ) -> None:
        self.brightness = self._factors("brightness", brightness)
        self.contrast = self._factors("contrast", contrast)
        self.saturation = self._factors("saturation", saturation)
        self.bounds = bounds
        self._low, self._high = (-math.inf, math.inf) if bounds is None else bounds
        if not self._low <= self._high:
            raise self.error(f"bounds must be (low, high), got {bounds!r}")

    def _factors(self, name: str, value: Range) -> tuple[float, float]:
        low, high = interval(self, name, value, 1.0)
        if isinstance(value, tuple | list) and low < 0:
            raise self.error(f"{name} must be at least 0, got {value!r}")
        return max(low, 0.0), high

    def change(self, ops: ModuleType, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        if x.shape[1] not in (1, 3):
            raise DataError(f"ColorJitter: expected grey images or RGB, got {x.shape[1]} channels")
        ranges = (self.brightness, self.contrast, self.saturation)
        factors = [within(u, bounds) for u, bounds in zip(draws.uniform(3), ranges, strict=True)]
        return ops.color_jitter(x, *factors, self._low, self._high), y


class Cutout(Transform):
    """Erase a square of each image, around a random pixel and cut off at the edges.

    Args:
        size: side of the square in pixels.
        value: what to write.

    Raises:
        ValueError: when the size is not positive.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.
    """

    def __init__(self, size: int, value: float = 0.0) -> None:
        if not isinstance(size, int) or not 1 <= size < 1 << 31:
            raise self.error(f"size must be an integer of at least 1, got {size!r}")
        self.size = size
        self.value = float(value)

    def change(self, ops: ModuleType, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        edges = np.array(x.shape[2:])[:, None]
        first = np.floor(draws.uniform(2) * edges).astype(np.int64) - self.size // 2
        boxes = np.concatenate([first.clip(0), np.minimum(first + self.size, edges)])
        return ops.erase_boxes(x, boxes.T, self.value), y


class RandomErasing(Transform):
    """Erase a rectangle of random area and shape, which lies within the image, with probability ``p``.

    Args:
        p: probability for each image.
        scale: of the image's area, (low, high).
        ratio: of height and width, (low, high), drawn evenly on a logarithmic scale.
        value: what to write.

    Raises:
        ValueError: for arguments out of range.

    Source: Zhong et al., "Random erasing data augmentation", 2017; here a rectangle that is too long is cut.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0.0,
    ) -> None:
        self.p = probability(self, p)
        self.scale = interval(self, "scale", tuple(scale))
        self.ratio = interval(self, "ratio", tuple(ratio))
        if not 0 <= self.scale[0] <= self.scale[1] <= 1:
            raise self.error(f"scale must be two fractions in [0, 1], got {scale!r}")
        if self.ratio[0] <= 0:
            raise self.error(f"ratio must be positive, got {ratio!r}")
        self.value = float(value)

    def change(self, ops: ModuleType, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        edges = np.array(x.shape[2:])[:, None]
        u = draws.uniform(5)
        area = within(u[1], self.scale) * edges.prod()
        ratio = np.exp(within(u[2], (math.log(self.ratio[0]), math.log(self.ratio[1]))))
        sides = np.minimum(np.rint(np.sqrt([area * ratio, area / ratio])), edges) * (u[0] < self.p)
        first = np.floor(u[3:] * (edges - sides + 1))
        boxes = np.concatenate([first, first + sides]).astype(np.int64)
        return ops.erase_boxes(x, boxes.T, self.value), y
