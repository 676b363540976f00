"""Dropout."""

# The methods that all layers share are described in base.py.
# ruff: noqa: D102

from __future__ import annotations

import secrets
from typing import ClassVar, NamedTuple

import numpy as np

from nbconv.layers.base import Layer
from nbconv.typing import Array, Backprop, Shape


class Draws(NamedTuple):
    """What a dropout draws next.

    Attributes:
        settled: whether somebody has set the seed, so that ``Trainer.fit(seed=...)`` leaves it alone.
    """

    seed: int
    offset: int = 0
    settled: bool = False


def seed_of(generator: np.random.SeedSequence) -> int:
    """A dropout's seed out of a generator of seeds."""
    return int(generator.generate_state(1, np.uint64)[0])


class Dropout(Layer):
    """In training, zero each element with probability ``p`` and divide the others by ``1 - p``.

    Evaluation changes nothing: the division keeps the expectation. Nor does a frozen layer. Which elements
    are kept follows from ``seed``, which a seeded model assigns, and ``offset``, which counts the training
    passes.

    Args:
        p: probability of an element to be dropped.

    Attributes:
        seed: of 64 bits, at random until somebody sets it: the layer's owner, or a model that has a seed.
        offset: training passes so far.

    Raises:
        ValueError: unless 0 <= p <= 1.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    op: ClassVar[str] = "dropout"

    def __init__(self, p: float = 0.5) -> None:
        self.p = float(p)
        if not 0.0 <= self.p <= 1.0:
            raise self.error(f"p is a probability and must be in [0, 1], got {p!r}")
        self.draw_seed()

    @property
    def seed(self) -> int:
        """Decides, with ``offset``, on what is kept."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed, self._is_settled = seed, True

    @property
    def draws(self) -> Draws:
        """Where the layer stands with its random numbers; to assign it goes on from there."""
        return Draws(self._seed, self.offset, self._is_settled)

    @draws.setter
    def draws(self, draws: Draws) -> None:
        self._seed, self.offset, self._is_settled = draws

    def draw_seed(self, generator: np.random.SeedSequence | None = None) -> None:
        """Begin anew with a seed that nobody has set: from a generator, or from fresh entropy."""
        self.draws = Draws(secrets.randbits(64) if generator is None else seed_of(generator))

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def infer(self, x: Array) -> Array:
        self.check(x)
        return x

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        self.check(x)
        if not training or self.frozen or self.p == 0.0:
            return x, lambda dy: dy if input_grad else None
        drop, p, seed, offset = getattr(self.ops, self.op), self.p, self.seed, self.offset
        self.offset = offset + 1
        y: Array = drop(x, p, seed, offset)

        def backprop(dy: Array) -> Array | None:
            # The same elements are kept, so that dropout is its own gradient and no mask is stored.
            return drop(dy, p, seed, offset) if input_grad else None

        return y, backprop


class Dropout2d(Dropout):
    """Dropout of whole channels: each is zero everywhere in its image, or kept and divided by ``1 - p``.

    Neighbouring pixels are alike, so that one of them alone is hardly missed. Input (N, C, H, W).

    Args:
        p: probability of a channel to be dropped.

    Raises:
        ValueError: unless 0 <= p <= 1.

    Source: Tompson et al., "Efficient object localization using convolutional networks", 2014.
    """

    op = "dropout2d"

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 4:
            raise self.error(f"expected an input of shape (N, C, H, W), got {input_shape}")
        return input_shape
