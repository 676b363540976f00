"""Layers that make rounding errors on purpose."""

from __future__ import annotations

import numpy as np

import nbconv as nb

from .passes import Array

_NORMS = (nb.BatchNorm2d, nb.GroupNorm, nb.LayerNorm, nb.SubtractiveNorm, nb.DivisiveNorm)


def shake(model: nb.Sequential, rng: np.random.Generator, size: float) -> None:
    """Put every result in a model off by about ``size`` times itself."""
    for _, inside in list(model.named_layers()):
        if isinstance(inside, nb.Sequential):
            inside.layers = [each for layer in inside.layers for each in _shaken(layer, rng, size)]
    model.to(model.backend, dtype=model.dtype)


def _shaken(layer: nb.Layer, rng: np.random.Generator, size: float) -> list[nb.Layer]:
    if layer.children():
        return [layer]
    return [Shifted(layer, rng, size) if isinstance(layer, _NORMS) else layer, Noise(rng, size)]


class Noise(nb.Layer):
    """Every number off by a relative error, and every gradient that comes back."""

    def __init__(self, rng: np.random.Generator, size: float) -> None:
        self.rng, self.size = rng, size

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False, *, input_grad=True):
        return self._off(x), lambda dy: self._off(dy) if input_grad else None

    def _off(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return x * (1 + self.size * self.rng.standard_normal(x.shape))


class Shifted(nb.Layer):
    """A normalisation whose statistics are rounded.

    A mean that is off moves all that it is subtracted from alike; and what is subtracted may leave next to
    nothing, beside which a rounding of the terms is large. Both are roundings of the largest element, of
    which the division by the deviation makes what it makes of the elements.
    """

    def __init__(self, layer: nb.Layer, rng: np.random.Generator, size: float) -> None:
        self.layer, self.rng, self.size = layer, rng, size

    def output_shape(self, input_shape):
        return self.layer.output_shape(input_shape)

    def forward(self, x, training=False, *, input_grad=True):
        y, backprop = self.layer.forward(x, training)
        gain = _gain(x, y)

        def through(dy):
            dx = backprop(dy)
            if not input_grad:
                return None
            # Where all elements are alike, only the way back tells.
            return self._moved(dx, max(gain, _gain(dy, dx)) * _largest(dy))

        return self._moved(y, gain * _largest(x)), through

    def _moved(self, x: Array, distance: float) -> Array:
        """Each example moved as a whole, each of its channels, and each element."""
        spread = self.size * distance
        for axes in range(1, x.ndim + 1):
            x = x + spread * self.rng.standard_normal(x.shape[:axes] + (1,) * (x.ndim - axes))
        return x


def _gain(x: Array, y: Array) -> float:
    """How much further apart elements of an example, a channel or both are than they were, at most."""
    if not x.size:
        return 0.0
    found = [0.0]
    planes = (x.shape[0] * x.shape[1], -1)
    for before, after in (
        (x.reshape(x.shape[0], -1), y.reshape(x.shape[0], -1)),
        (np.moveaxis(x, 1, 0).reshape(x.shape[1], -1), np.moveaxis(y, 1, 0).reshape(x.shape[1], -1)),
        (x.reshape(planes), y.reshape(planes)),
    ):
        wide = np.ptp(before, axis=1)
        found += list(np.ptp(after, axis=1)[wide > 0] / wide[wide > 0])
    return max((ratio for ratio in found if np.isfinite(ratio)), default=0.0)


def _largest(x: Array) -> float:
    return float(np.abs(x[np.isfinite(x)]).max(initial=0.0))
