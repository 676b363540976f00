"""AlexNet, with which deep learning took over computer vision, and ZFNet, which looked into it."""

from __future__ import annotations

from nbconv.layers import (
    ContrastNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
)
from nbconv.models.blocks import conv_relu, dense, fully_connected
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential

_VARIANTS = ("paper", "torchvision")


def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    grouped: bool = False,
    variant: str = "paper",
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """AlexNet, for images of 227 x 227: five convolutions, local response normalisation, three dense layers.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        grouped: split the second, fourth and fifth convolution in two, as the original did to fit on two
            GPUs.
        variant: "paper", or "torchvision" for the network whose weights torchvision has: the narrower form
            of "One weird trick", for images of 224 x 224, without normalisation.
        weights: a safetensors file or a state dict, with this model's keys or those of torchvision's variant.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        ValueError: for another variant.
        StateDictError: if the weights do not fit.

    Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012;
    CS6375. The variant: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
    """
    if variant not in _VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, _VARIANTS))}, got {variant!r}")
    names: list[str] = []
    if variant == "torchvision":
        if grouped:
            raise ValueError("torchvision's variant has no groups")
        features = _one_weird_trick(in_channels)
        end = _dropout_first(256 * 6 * 6, num_classes)
        names += [f"features.{i}" for i, layer in enumerate(features) if isinstance(layer, Conv2d)]
        # torchvision flattens between its two halves.
        names += [f"classifier.{i - 1}" for i, layer in enumerate(end) if isinstance(layer, Dense)]
    else:
        features = _paper(in_channels, groups=2 if grouped else 1)
        end = fully_connected(256 * 6 * 6, 4096, num_classes)
    return load_weights(Sequential(*features, *end, backend=backend, seed=seed), weights, names)


def zfnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    channels: tuple[int, int, int] = (384, 384, 256),
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """ZFNet, for images of 224 x 224: AlexNet with smaller first windows and contrast normalisation.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        channels: of the last three convolutions; the paper also tries (512, 1024, 512).
        weights: a safetensors file or a state dict with this model's keys.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        StateDictError: if the weights do not fit.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013; CS6375.
    """
    third, fourth, fifth = channels
    layers = [
        *conv_relu(in_channels, 96, 7, stride=2, padding=1),
        MaxPool2d(3, stride=2, ceil_mode=True),
        ContrastNorm(5),
        *conv_relu(96, 256, 5, stride=2, padding=0),
        MaxPool2d(3, stride=2, ceil_mode=True),
        ContrastNorm(5),
        *conv_relu(256, third, 3),
        *conv_relu(third, fourth, 3),
        *conv_relu(fourth, fifth, 3),
        MaxPool2d(3, stride=2, ceil_mode=True),
        *fully_connected(fifth * 6 * 6, 4096, num_classes),
    ]
    return load_weights(Sequential(*layers, backend=backend, seed=seed), weights)


def _paper(in_channels: int, groups: int) -> list[Layer]:
    return [
        *conv_relu(in_channels, 96, 11, stride=4, padding=0),
        MaxPool2d(3, stride=2),
        _local_norm(),
        *conv_relu(96, 256, 5, groups=groups),
        MaxPool2d(3, stride=2),
        _local_norm(),
        *conv_relu(256, 384, 3),
        *conv_relu(384, 384, 3, groups=groups),
        *conv_relu(384, 256, 3, groups=groups),
        MaxPool2d(3, stride=2),
    ]


def _local_norm() -> LocalResponseNorm:
    # The paper's alpha is a factor of the sum over the window, LocalResponseNorm's of the mean.
    return LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def _one_weird_trick(in_channels: int) -> list[Layer]:
    return [
        *conv_relu(in_channels, 64, 11, stride=4, padding=2),
        MaxPool2d(3, stride=2),
        *conv_relu(64, 192, 5),
        MaxPool2d(3, stride=2),
        *conv_relu(192, 384, 3),
        *conv_relu(384, 256, 3),
        *conv_relu(256, 256, 3),
        MaxPool2d(3, stride=2),
    ]


def _dropout_first(features: int, num_classes: int) -> list[Layer]:
    """As torchvision, drop in front of the hidden layers, not behind them."""
    return [
        Flatten(),
        *(Dropout(), dense(features, 4096), ReLU()),
        *(Dropout(), dense(4096, 4096), ReLU()),
        Dense(4096, num_classes),
    ]
