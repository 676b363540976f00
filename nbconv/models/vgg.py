"""VGG: nothing but 3 x 3 convolutions and pools that halve the size, and the more of them the better."""

from __future__ import annotations

from typing import Unpack

from nbconv.layers import BatchNorm2d, Conv2d, Dense, Layer, MaxPool2d
from nbconv.models.blocks import conv_relu, fully_connected
from nbconv.models.options import Options
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential

_CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_CHANNELS = (1, 2, 4, 8, 8)  # of each stage, in units of the first's


class VGGOptions(Options, total=False):
    """What :func:`vgg` takes by name."""

    batch_norm: bool
    small: bool
    width: int


def vgg11(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[VGGOptions]) -> Sequential:
    """VGG-11, configuration A; see :func:`vgg`."""
    return vgg(11, num_classes, in_channels, **options)


def vgg13(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[VGGOptions]) -> Sequential:
    """VGG-13, configuration B; see :func:`vgg`."""
    return vgg(13, num_classes, in_channels, **options)


def vgg16(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[VGGOptions]) -> Sequential:
    """VGG-16, configuration D; see :func:`vgg`."""
    return vgg(16, num_classes, in_channels, **options)


def vgg19(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[VGGOptions]) -> Sequential:
    """VGG-19, configuration E; see :func:`vgg`."""
    return vgg(19, num_classes, in_channels, **options)


def vgg(
    depth: int,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    batch_norm: bool = False,
    small: bool = False,
    width: int = 64,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """VGG of 11, 13, 16 or 19 layers with weights, for images of 224 x 224.

    Args:
        depth: how many layers have weights.
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        batch_norm: normalise behind every convolution, as torchvision's ``vgg16_bn`` does.
        small: the form for images of 32 x 32, which come out of the convolutions as 1 x 1: so the fully
            connected layers have as many inputs, and as many units, as there are channels.
        width: channels of the first stage; all layers grow with it.
        weights: a safetensors file or a state dict, with this model's keys or torchvision's.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        ValueError: for another depth.
        StateDictError: if the weights do not fit.

    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
    2014; CS6375.
    """
    if depth not in _CONVOLUTIONS:
        raise ValueError(f"depth must be one of {', '.join(map(str, _CONVOLUTIONS))}, got {depth!r}")
    layers: list[Layer] = []
    channels = in_channels
    for convolutions, multiple in zip(_CONVOLUTIONS[depth], _CHANNELS, strict=True):
        for _ in range(convolutions):
            layers += conv_relu(channels, multiple * width, 3, batch_norm=batch_norm)
            channels = multiple * width
        layers.append(MaxPool2d(2))
    features, hidden = (channels, channels) if small else (channels * 7 * 7, 64 * width)
    end = fully_connected(features, hidden, num_classes)

    names = [f"features.{i}" for i, layer in enumerate(layers) if isinstance(layer, Conv2d | BatchNorm2d)]
    # torchvision flattens between its two halves.
    names += [f"classifier.{i - 1}" for i, layer in enumerate(end) if isinstance(layer, Dense)]
    return load_weights(Sequential(*layers, *end, backend=backend, seed=seed), weights, names)
