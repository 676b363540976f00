"""Which pixels a class hangs on: gradients of logits with respect to the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nbconv.inspect import twin
from nbconv.layers.base import Layer
from nbconv.typing import Array

_REDUCTIONS = ("max", "mean")


def saliency(
    model: Layer,
    x: npt.ArrayLike,
    target: npt.ArrayLike | None = None,
    *,
    reduce: str | None = "max",
    batch_size: int = 64,
) -> Array:
    """How much the logit of a class changes with each pixel.

    Forward to the logits (a softmax at the end is left out), a gradient that is 1 at the class and 0
    elsewhere, and back to the image. The model's parameters and their gradients stay as they are.

    Args:
        model: that gives (N, classes).
        x: (N, C, H, W) floating point.
        target: the class, or one for each image; None for the one that is predicted.
        reduce: over the channels of the absolute gradient: "max" or "mean"; None for the gradient itself.
        batch_size: images at a time.

    Returns:
        (N, H, W), or like ``x`` without a reduction.

    Raises:
        DataError: for other shapes or classes.

    Source: Simonyan et al., "Deep inside convolutional networks", 2013; CS109B lecture 11.
    """
    _check(reduce)
    x, looked_into = twin.examples(x, images=reduce is not None), twin.logits_twin(model)
    gradients = [
        twin.class_gradient(looked_into, images, classes)[1]
        for _, images, classes in twin.batches(x, target, batch_size)
    ]
    return _reduced(np.concatenate(gradients), reduce)


def smooth_grad(
    model: Layer,
    x: npt.ArrayLike,
    target: npt.ArrayLike | None = None,
    *,
    noise: float = 0.15,
    samples: int = 25,
    reduce: str | None = "max",
    seed: int = 0,
    batch_size: int = 64,
) -> Array:
    """:func:`saliency`, from the mean gradient over noisy copies of each image.

    Gradients of ReLU networks change quickly from image to image; the mean shows what they have in common.

    Args:
        model: that gives (N, classes).
        x: (N, C, H, W) floating point.
        target: the class, or one for each image; None for the one that is predicted without noise.
        noise: standard deviation, as a share of each image's largest minus its smallest value.
        samples: noisy copies of each image.
        reduce: as of :func:`saliency`, of the mean.
        seed: of the noise.
        batch_size: images at a time.

    Raises:
        DataError: for other shapes or classes.
        ValueError: for negative noise or no samples.

    Source: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
    """
    _check(reduce)
    if noise < 0 or samples < 1:
        raise ValueError(f"smooth_grad: needs noise >= 0 and samples >= 1, got {noise} and {samples}")
    x, looked_into = twin.examples(x, images=reduce is not None), twin.logits_twin(model)
    rng = np.random.default_rng(seed)
    means = np.empty(x.shape, looked_into.dtype)
    for here, images, given in twin.batches(x, target, batch_size):
        classes = twin.targets_of(twin.logits(looked_into, images, batch_size), given)
        axes = tuple(range(1, x.ndim))
        spread = noise * (images.max(axis=axes, keepdims=True) - images.min(axis=axes, keepdims=True))
        total = np.zeros(images.shape, np.float64)
        for _ in range(samples):
            noisy = images + spread * rng.standard_normal(images.shape)
            total += twin.class_gradient(looked_into, noisy, classes)[1]
        means[here] = total / samples
    return _reduced(means, reduce)


def _reduced(gradient: Array, reduce: str | None) -> Array:
    if reduce is None:
        return gradient
    size = np.abs(gradient)
    reduced: Array = size.max(axis=1) if reduce == "max" else size.mean(axis=1)
    return reduced


def _check(reduce: str | None) -> None:
    if reduce is not None and reduce not in _REDUCTIONS:
        raise ValueError(f'reduce must be "max", "mean" or None, got {reduce!r}')
