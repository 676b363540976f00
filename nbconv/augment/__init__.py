"""Augmentation: random changes to each training batch, computed while the model trains.

Every transform is called as ``transform(x, y, seed) -> (x, y)`` on a batch: images x (N, C, H, W), float32 or
float64, and their targets y. Each image has its own draws, which follow from the seed, the transform's place
in its ``Compose`` and the image's place in the batch, on any number of threads. Inputs are left as they are.

Where pixels move, targets of pixels, labels (N, H, W) or masks (N, C, H, W), move with them; labels of images
stay as they are. What comes from beyond an image's edge is labelled ``Compose(..., ignore_index=)``, by
``Trainer.fit`` what the loss ignores; masks with channels and those of floats are 0 there.

    light = nb.augment.Compose([nb.augment.RandomAffine(10, (0.1, 0.1)), nb.augment.GaussianNoise(0.05)])
    trainer.fit(x, y, augment=light)
"""

from nbconv.augment.compose import Compose
from nbconv.augment.geometric import (
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRescale,
    RandomRotation,
    RandomShift,
    RandomVerticalFlip,
)
from nbconv.augment.mixup import Mixup
from nbconv.augment.pixels import ColorJitter, Cutout, GaussianNoise, RandomErasing
from nbconv.augment.recipes import RECIPES
from nbconv.augment.seeds import Draws, batch_seed
from nbconv.augment.transform import Geometric, Transform

__all__ = [
    "RECIPES",
    "ColorJitter",
    "Compose",
    "Cutout",
    "Draws",
    "GaussianNoise",
    "Geometric",
    "Mixup",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRescale",
    "RandomRotation",
    "RandomShift",
    "RandomVerticalFlip",
    "Transform",
    "batch_seed",
]
