"""Grad-CAM: where in an image the feature maps that speak for a class are active."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nbconv.inspect import twin
from nbconv.layers.base import Layer
from nbconv.typing import Array, Shape


def grad_cam(
    model: Layer,
    x: npt.ArrayLike,
    target: npt.ArrayLike | None = None,
    *,
    layer: twin.LayerName | None = None,
    resize: bool = True,
    batch_size: int = 64,
) -> Array:
    """The positive part of a layer's feature maps, summed with how much each of them speaks for a class.

    ``max(0, sum_k a_k A_k)``, where ``a_k`` is the mean over map ``A_k`` of the gradient of the class' logit.

    Args:
        model: that gives (N, classes).
        x: (N, C, H, W) floating point.
        target: the class, or one for each image; None for the one that is predicted.
        layer: name, number or the layer itself; None for the last that still has feature maps.
        resize: to the size of the image, bilinearly; else maps have the size of the layer's.
        batch_size: images at a time.

    Returns:
        (N, H, W), of the image or the layer.

    Raises:
        DataError: for other shapes or classes.
        LayerError: if there is no such layer, or it gives no feature maps.

    Source: Selvaraju et al., "Grad-CAM", 2016.
    """
    from nbconv.data.resize import resize_bilinear

    x = twin.examples(x)
    position = _last_maps(model, x.shape) if layer is None else twin.find(model, layer)
    taps, replace = twin.tapped([position])
    looked_into = twin.logits_twin(model, replace)
    tap, maps = taps[position], []
    for _, images, classes in twin.batches(x, target, batch_size):
        twin.class_gradient(looked_into, images, classes)
        assert tap.output is not None
        if tap.output.ndim != 4 or tap.gradient is None:
            raise model.error(f"layer {position} gives no feature maps, but {tap.output.shape}")
        weights = tap.gradient.mean(axis=(2, 3), keepdims=True)
        maps.append(np.maximum((weights * tap.output).sum(axis=1), 0))
    found = np.concatenate(maps)
    return resize_bilinear(found, x.shape[2:]) if resize else found


def _last_maps(model: Layer, input_shape: Shape) -> str:
    """The place of the last layer whose output has more than one row or column."""
    places = [
        step.position
        for step in model.trace((1, *input_shape[1:]))
        if len(step.output_shape) == 4 and math.prod(step.output_shape[2:]) > 1
    ]
    if not places:
        raise model.error("no layer gives feature maps")
    return places[-1]
