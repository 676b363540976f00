"""Layers that train together with the ReLU beside them.

A sweep over memory for the ReLU alone costs as much as a small layer. Behind a normalisation or a convolution
it costs nothing: it is done to the values on their way to memory. In front of a maximum pool it can go behind
it, where the elements are fewer: the largest of rectified values is the largest value, rectified, and where
that is not positive no gradient passes either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from nbconv.layers.activation import ReLU
from nbconv.layers.base import Layer
from nbconv.layers.conv import Conv2d
from nbconv.layers.norm import BatchNorm2d
from nbconv.layers.pool import MaxPool2d

Rectified = BatchNorm2d | Conv2d | MaxPool2d
"""Layers with a ``forward_rectified``."""


def rectified(layers: Sequence[Layer]) -> Rectified | None:
    """Of layers that follow each other, the one that computes the first two together, if one does.

    Layers of the user's own stay by themselves, and so do those whose ``forward`` somebody has replaced.
    """
    kinds = [None if "forward" in vars(layer) else type(layer) for layer in layers[:3]]
    if kinds[:2] == [ReLU, MaxPool2d]:
        return cast("MaxPool2d", layers[1])
    if kinds[:2] == [BatchNorm2d, ReLU] or (kinds[:2] == [Conv2d, ReLU] and kinds[2:] != [MaxPool2d]):
        return cast("BatchNorm2d | Conv2d", layers[0])
    return None
