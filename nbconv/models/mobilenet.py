"""MobileNets: convolutions in two steps, one that looks around and one that mixes channels."""

from __future__ import annotations

from nbconv.layers import Layer
from nbconv.models.blocks import conv_norm_relu, pooled_classifier
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential

# (channels, stride) of each separable convolution.
_V1_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


def separable(in_channels: int, out_channels: int, stride: int = 1) -> Sequential:
    """A depthwise separable convolution: 3 x 3 within each channel, then 1 x 1 across them.

    It takes 1 / out_channels + 1 / 9 of the multiply-adds of the 3 x 3 convolution that it stands for.
    """
    return Sequential(
        *conv_norm_relu(in_channels, in_channels, 3, stride=stride, groups=in_channels),
        *conv_norm_relu(in_channels, out_channels, 1),
    )


def mobilenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_multiplier: float = 1.0,
    small: bool = False,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """MobileNet, for images of 224 x 224.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        width_multiplier: thins every layer: 1, 0.75, 0.5 and 0.25 are usual.
        small: the form for images of 32 x 32, whose first layer keeps their size.
        weights: a safetensors file or a state dict with this model's keys.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        StateDictError: if the weights do not fit.

    Source: Howard et al., "MobileNets", 2017; CS109B.
    """
    channels = _scaled(32, width_multiplier)
    layers: list[Layer] = conv_norm_relu(in_channels, channels, 3, stride=1 if small else 2)
    for full_width, stride in _V1_BLOCKS:
        out_channels = _scaled(full_width, width_multiplier)
        layers.append(separable(channels, out_channels, stride))
        channels = out_channels
    layers += pooled_classifier(channels, num_classes)
    return load_weights(Sequential(*layers, backend=backend, seed=seed), weights)


def _scaled(channels: int, width_multiplier: float) -> int:
    return max(1, int(channels * width_multiplier))
