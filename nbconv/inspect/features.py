"""What a model is made of and what it makes of an image: filters, activations, and both as one picture."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nbconv.errors import DataError
from nbconv.inspect import twin
from nbconv.layers.base import Layer
from nbconv.layers.conv import Conv2d
from nbconv.typing import Array

_SCALES = ("each", "all", "none")


def filters(model: Layer, layer: twin.LayerName | None = None) -> Array:
    """A copy of a convolution's filters, (out, in / groups, height, width).

    Args:
        model: any.
        layer: name, number or the layer itself; None for the first convolution.

    Raises:
        LayerError: if that is no convolution.
    """
    if layer is None:
        found = next((inner for _, inner in model.named_layers() if isinstance(inner, Conv2d)), None)
        if found is None:
            raise model.error("there is no convolution")
    else:
        position = twin.find(model, layer)
        inner = dict(model.named_layers())[position]
        if not isinstance(inner, Conv2d):
            raise model.error(f"layer {position} is no convolution, but {inner!r}")
        found = inner
    return np.array(found.weight.numpy())


def activations(
    model: Layer, x: npt.ArrayLike, layers: Iterable[twin.LayerName] | None = None
) -> dict[str, Array]:
    """What comes out of a model's layers in evaluation mode, by the layer's place.

    Args:
        model: any.
        x: (N, ...) floating point.
        layers: names, numbers or layers themselves; None for all that the summary lists.

    Returns:
        Copies, in the order of the model.

    Raises:
        LayerError: if there is no such layer, or ``x`` does not fit.
    """
    x = twin.examples(x, images=False)
    steps = [step.position for step in model.trace(x.shape) if step.position]
    wanted = steps if layers is None else [twin.find(model, layer) for layer in layers]
    taps, replace = twin.tapped(wanted)
    looked_into = twin.twin(model, replace)
    looked_into.forward(looked_into.prepare(x), training=False, input_grad=False)
    outputs: dict[str, Array] = {}
    for place in wanted:
        output = taps[place].output
        if output is None:
            raise model.error(f"nothing passes layer {place} in evaluation mode")
        outputs[place] = output
    return outputs


def image_grid(
    images: npt.ArrayLike, columns: int | None = None, *, gap: int = 1, scale: str = "each"
) -> Array:
    """Images side by side in one, row by row, on white.

    Args:
        images: (N, H, W), or (N, C, H, W) with one channel or three (colour); more are so many images each.
        columns: images in a row; None for about as many as rows, or the channels where there are more.
        gap: pixels between neighbours.
        scale: "each" image to [0, 1], "all" by the same rule, or "none".

    Returns:
        (height, width), or (height, width, 3) in colour.

    Raises:
        DataError: for another shape, or no images.
        ValueError: for another scale, or columns less than 1.
    """
    array = np.asarray(images, np.float64)
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(f"expected images of shape (N, H, W) or (N, C, H, W), got {array.shape}")
    if scale not in _SCALES:
        raise ValueError(f"scale must be one of {', '.join(_SCALES)}, got {scale!r}")
    if array.ndim == 4 and array.shape[1] not in (1, 3):
        columns = columns or array.shape[1]
        array = array.reshape(-1, *array.shape[2:])
    if array.ndim == 3:
        array = array[:, np.newaxis]
    array = array.transpose(0, 2, 3, 1)
    if scale != "none":
        axes = (1, 2, 3) if scale == "each" else None
        low, high = array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True)
        array = (array - low) / np.where(high > low, high - low, 1)
    count, height, width, channels = array.shape
    columns = int(np.ceil(np.sqrt(count))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns must be positive, got {columns}")
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    for number, image in enumerate(array):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid[..., 0] if channels == 1 else grid
