"""Occlusion: what becomes of a class when a part of the image is hidden."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from nbconv.errors import DataError
from nbconv.inspect import twin
from nbconv.layers.base import Layer
from nbconv.layers.validate import positive_pair
from nbconv.typing import Array, Pair


def occlusion(
    model: Layer,
    x: npt.ArrayLike,
    target: npt.ArrayLike | None = None,
    *,
    window: int | Pair,
    stride: int | Pair = 1,
    value: float = 0.0,
    probability: bool = False,
    batch_size: int = 256,
) -> Array:
    """By how much a class loses when a window of the image is hidden: large where the evidence for it is.

    Args:
        model: that gives (N, classes).
        x: (N, C, H, W) floating point.
        target: the class, or one for each image; None for the one that is predicted of the whole image.
        window: what is hidden at a time; an integer or (height, width), like the stride.
        stride: from one window to the next.
        value: put in the place of the pixels, in all channels; such as the mean of the data.
        probability: measure the class' probability instead of its logit.
        batch_size: images at a time.

    Returns:
        (N, P, Q): entry (p, q) is the loss by the window whose first row and column are p and q times the
        stride. Windows lie inside the image.

    Raises:
        DataError: for other shapes or classes, or a window larger than the image.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013.
    """
    x = twin.examples(x)
    (height, width), (down, right) = positive_pair(window, "window"), positive_pair(stride, "stride")
    rows, columns = range(0, x.shape[2] - height + 1, down), range(0, x.shape[3] - width + 1, right)
    if not rows or not columns:
        raise DataError(f"a window of {height} x {width} does not fit into images of {x.shape[2:]}")
    looked_into = twin.logits_twin(model)
    whole = twin.logits(looked_into, x, batch_size)
    classes = twin.targets_of(whole, target)
    places = np.array([*itertools.product(range(len(x)), rows, columns)], np.intp).reshape(-1, 3)
    lost = np.empty(len(places), whole.dtype)
    for here, some, _ in twin.batches(places, None, batch_size):
        images = x[some[:, 0]]
        for image, (_, row, column) in zip(images, some, strict=True):
            image[:, row : row + height, column : column + width] = value
        lost[here] = _score(twin.logits(looked_into, images, batch_size), classes[some[:, 0]], probability)
    kept = _score(whole, classes, probability)
    difference: Array = kept[:, np.newaxis, np.newaxis] - lost.reshape(len(x), len(rows), len(columns))
    return difference


def _score(logits: Array, classes: Array, probability: bool) -> Array:
    if probability:
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        logits = logits / logits.sum(axis=1, keepdims=True)
    chosen: Array = logits[np.arange(len(logits)), classes]
    return chosen
