"""Where the random numbers come from: functions of a counter, not streams with a state."""

from __future__ import annotations

import operator

import numpy as np

from nbconv.typing import Array

_SECOND_STREAM = 1 << 63


def batch_seed(seed: int, epoch: int, batch: int) -> int:
    """The seed of one batch's augmentation, an unsigned 64-bit number: what ``Trainer.fit`` hands on.

    Args:
        seed: of the run, at least 0.
        epoch: counted from 0.
        batch: counted from 0 in each epoch.
    """
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1, np.uint64)[0])


class Draws:
    """One transform's random numbers for one batch; an image's do not depend on how many images follow it.

    Attributes:
        seed: of the batch.
        place: of the transform among those that share the seed.
        images: how many there are.
    """

    def __init__(self, seed: int, place: int, images: int) -> None:
        if not 0 <= operator.index(seed) < 1 << 64:
            raise ValueError(f"the seed of an augmentation is an unsigned 64-bit number, got {seed}")
        self.seed = int(seed)
        self.place = place
        self.images = images

    def uniform(self, count: int) -> Array:
        """Numbers in [0, 1), float64 (count, images); the same at every call."""
        words = self._philox(self.place).random_raw(count * self.images)
        numbers: Array = (words >> np.uint64(11)).reshape(self.images, count).T * 2.0**-53
        return numbers

    def beta(self, alpha: float) -> Array:
        """Numbers of the distribution Beta(alpha, alpha), float64 (images,); the same at every call."""
        stream = self._philox(self.place + _SECOND_STREAM)
        return np.random.Generator(stream).beta(alpha, alpha, self.images)

    def _philox(self, stream: int) -> np.random.Philox:
        return np.random.Philox(key=np.array([self.seed, stream], np.uint64))
