"""A network that learns CIFAR-10 in a few epochs, and the whitening of its first layer."""

from __future__ import annotations

import numpy as np

from nbconv.layers import GELU, BatchNorm2d, Conv2d, Dense, Flatten, Layer, MaxPool2d
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential
from nbconv.typing import Array

_PATCHES = 200_000  # are enough for the covariance of a few numbers each


def airbench(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    widths: tuple[int, int, int] = (64, 256, 256),
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """A network for images of 32 x 32: a layer for :func:`whiten`, then three blocks of two 3x3 convolutions.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        widths: channels of the blocks.
        weights: a safetensors file or a state dict with this model's keys.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        StateDictError: if the weights do not fit.

    Source: Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024.
    """
    channels = 2 * in_channels * 2 * 2
    layers: list[Layer] = [Conv2d(in_channels, channels, 2), GELU()]
    for width in widths:
        layers += [
            Conv2d(channels, width, 3, padding=1, bias=False),
            MaxPool2d(2),
            BatchNorm2d(width, momentum=0.4),
            GELU(),
            Conv2d(width, width, 3, padding=1, bias=False),
            BatchNorm2d(width, momentum=0.4),
            GELU(),
        ]
        channels = width
    layers += [MaxPool2d(3), Flatten(), Dense(channels, num_classes, bias=False)]
    return load_weights(Sequential(*layers, backend=backend, seed=seed), weights)


def whiten(model: Sequential, images: Array, eps: float = 5e-4) -> Conv2d:
    """Let the first convolution whiten the patches of images, and freeze its weights.

    Its filters become the principal directions of the patches, divided by the root of their variance plus
    ``eps``; where there are twice as many filters, the second half are the negatives of the first. The bias
    takes the mean away, and goes on being trained.

    Args:
        model: whose first layer is a convolution with as many filters as a patch has numbers, or twice that.
        images: to measure, (N, C, H, W).
        eps: keeps directions in which nothing happens from being blown up.

    Returns:
        The layer.

    Raises:
        ValueError: if the first layer is another one, or the images do not fit it.
    """
    conv = model[0]
    if not isinstance(conv, Conv2d) or conv.groups != 1 or conv.dilation != (1, 1) or conv.bias is None:
        raise ValueError(f"whiten: the first layer must be a plain convolution with bias, got {conv!r}")
    height, width = conv.kernel_size
    numbers = conv.in_channels * height * width
    if conv.out_channels not in (numbers, 2 * numbers):
        raise ValueError(
            f"whiten: patches of {numbers} numbers need {numbers} or {2 * numbers} filters, "
            f"got {conv.out_channels}"
        )
    if images.ndim != 4 or images.shape[1] != conv.in_channels or not len(images):
        raise ValueError(f"whiten: expected images of {conv.in_channels} channels, got shape {images.shape}")
    each = (images.shape[2] - height + 1) * (images.shape[3] - width + 1)
    some = images[:: max(1, len(images) * each // _PATCHES)]
    windows = np.lib.stride_tricks.sliding_window_view(some, (height, width), (2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, numbers).astype(np.float64)
    mean = patches.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(patches - mean, rowvar=False, bias=True))
    filters = (directions / np.sqrt(np.maximum(variances, 0) + eps)).T[::-1]
    if conv.out_channels == 2 * numbers:
        filters = np.concatenate([filters, -filters])
    conv.weight.data = filters.reshape(conv.weight.shape)
    conv.bias.data = -filters @ mean
    conv.weight.requires_grad = False
    return conv
