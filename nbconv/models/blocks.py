"""Runs of layers that many networks are made of."""

from __future__ import annotations

from nbconv import initializers
from nbconv.layers import BatchNorm2d, Conv2d, Dense, Dropout, Flatten, GlobalAvgPool2d, Layer, ReLU
from nbconv.typing import Pair

# He's rule keeps the spread of activations from layer to layer; networks without batch normalisation do not
# begin to learn under the smaller first weights that layers have by default.
_HE = initializers.kaiming_normal(nonlinearity="relu")
_ZERO = initializers.zeros()


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int | Pair = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = True,
) -> Conv2d:
    """A convolution as networks of ReLUs want it: zeros around that keep the size, and He's first weights."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2 if padding is None else padding,
        groups=groups,
        bias=bias,
        weight_init=_HE,
        bias_init=_ZERO,
    )


def conv_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    batch_norm: bool = False,
) -> list[Layer]:
    """Convolution and ReLU, or convolution with a bias, batch normalisation and ReLU."""
    layers: list[Layer] = [
        conv(in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups)
    ]
    if batch_norm:
        layers.append(BatchNorm2d(out_channels))
    return [*layers, ReLU()]


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> list[Layer]:
    """Convolution and batch normalisation, whose shift is the only bias."""
    return [
        conv(in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=False),
        BatchNorm2d(out_channels),
    ]


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> list[Layer]:
    """Convolution, batch normalisation and ReLU."""
    return [*conv_norm(in_channels, out_channels, kernel_size, stride=stride, groups=groups), ReLU()]


def dense(in_features: int, out_features: int) -> Dense:
    """A fully connected layer in front of a ReLU, with He's first weights."""
    return Dense(in_features, out_features, weight_init=_HE, bias_init=_ZERO)


def fully_connected(features: int, hidden: int, num_classes: int, dropout: float = 0.5) -> list[Layer]:
    """AlexNet's end, which VGG took over: two hidden layers with dropout, and the logits."""
    return [
        Flatten(),
        *(dense(features, hidden), ReLU(), Dropout(dropout)),
        *(dense(hidden, hidden), ReLU(), Dropout(dropout)),
        Dense(hidden, num_classes, bias_init=_ZERO),
    ]


def pooled_classifier(features: int, num_classes: int) -> list[Layer]:
    """The mean over each channel, and one layer to the logits: the end of most networks since GoogLeNet."""
    return [GlobalAvgPool2d(), Dense(features, num_classes, bias_init=_ZERO)]
