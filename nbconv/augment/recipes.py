"""Augmentations that go with data sets, by name."""

from __future__ import annotations

from collections.abc import Callable

from nbconv.augment.compose import Compose
from nbconv.augment.geometric import RandomAffine, RandomCrop, RandomHorizontalFlip
from nbconv.augment.transform import Transform


def handwriting() -> Transform:
    """For written characters: turned, moved, resized and slanted as hands do, but never mirrored."""
    return RandomAffine(15, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=(-20, 20, -10, 10))


def crop_and_flip() -> Transform:
    """For small photographs (32 x 32): moved by up to four pixels, and mirrored.

    Source: He et al., "Deep residual learning for image recognition", 2015, section 4.2.
    """
    return Compose([RandomCrop(padding=4), RandomHorizontalFlip()])


RECIPES: dict[str, Callable[[], Transform] | None] = {
    "none": None,
    "affine": handwriting,
    "crop-flip": crop_and_flip,
}
