"""The deconvolution view: what in an image has made a feature map active.

The way back through the network: a max pooling puts values where its maxima were (the switches; where windows
overlap, values add up), an activation lets only positive ones pass, and a convolution spreads them by its
filters, transposed. Local response and contrast normalisation are passed by; everything else, being linear,
is transposed as convolutions are.

Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013.
"""

# The methods that all layers share are described in layers/base.py.

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.inspect import twin
from nbconv.layers.activation import Activation, LogSoftmax, PReLU, Softmax
from nbconv.layers.base import Layer
from nbconv.layers.local_norm import ContrastNorm, DivisiveNorm, LocalResponseNorm, SubtractiveNorm
from nbconv.typing import Array, Backprop

_NORMS = (LocalResponseNorm, ContrastNorm, SubtractiveNorm, DivisiveNorm)


def deconvolution(
    model: Layer,
    x: npt.ArrayLike,
    layer: twin.LayerName,
    channel: npt.ArrayLike | None = None,
    *,
    whole_map: bool = False,
) -> Array:
    """Each image's pattern that has made a feature map active, in pixels.

    Args:
        model: any.
        x: (N, C, H, W) floating point.
        layer: name, number or the layer itself, whose output is looked at.
        channel: the feature map, or one for each image; None for the one with the largest activation.
        whole_map: start from all of the map instead of its largest activation.

    Returns:
        Of the shape of ``x``; pixels far from 0 are the pattern.

    Raises:
        DataError: for other shapes or channels.
        LayerError: if there is no such layer, or it gives no feature maps.
    """
    x, position = twin.examples(x), twin.find(model, layer)

    def replace(place: str, inner: Layer) -> Layer:
        if isinstance(inner, Activation | PReLU) and not isinstance(inner, Softmax | LogSoftmax):
            inner = _Rectified(inner)
        elif isinstance(inner, _NORMS):
            inner = _PassedBy(inner)
        return _Start(inner, channel, whole_map) if place == position else inner

    looked_into = twin.twin(model, replace)
    y, backprop = looked_into.forward(looked_into.prepare(x), training=False)
    nothing = np.zeros(y.shape, looked_into.dtype)
    return backends.to_numpy(backprop(looked_into.prepare(nothing)))


class _Rectified(twin.Stand):
    """An activation through which only what is positive comes back."""

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        return self.layer.forward(x, training)[0], self.ops.relu


class _PassedBy(twin.Stand):
    """A layer that is left out on the way back."""

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        return self.layer.forward(x, training)[0], lambda dy: dy


class _Start(twin.Stand):
    """The layer to start from: what comes back to it from above does not matter."""

    def __init__(self, layer: Layer, channel: npt.ArrayLike | None, whole_map: bool) -> None:
        super().__init__(layer)
        self.channel, self.whole_map = channel, whole_map

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, through = self.layer.forward(x, training)
        chosen = self.prepare(self._chosen(backends.to_numpy(y)))
        return y, lambda dy: through(chosen)

    def _chosen(self, y: Array) -> Array:
        """``y`` where the largest activation of the chosen map is, or all of that map; 0 elsewhere."""
        if y.ndim != 4:
            raise self.layer.error(f"gives no feature maps, but {y.shape}")
        maps = y.reshape(*y.shape[:2], math.prod(y.shape[2:]))
        channels = twin.targets_of(maps.max(axis=2), self.channel)
        here = np.arange(len(y))
        chosen = np.zeros_like(maps)
        if self.whole_map:
            chosen[here, channels] = maps[here, channels]
        else:
            peak = maps[here, channels].argmax(axis=1)
            chosen[here, channels, peak] = maps[here, channels, peak]
        return chosen.reshape(y.shape)
