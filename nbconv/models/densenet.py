"""DenseNets: every layer of a block sees the outputs of all layers before it, side by side."""

from __future__ import annotations

import re
from typing import Unpack

from nbconv.layers import AvgPool2d, BatchNorm2d, DenseBlock, Layer, MaxPool2d, ReLU
from nbconv.models.blocks import conv, conv_norm_relu, pooled_classifier
from nbconv.models.options import Options
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential

_LAYERS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


class DenseNetOptions(Options, total=False):
    """What :func:`densenet` takes by name."""

    small: bool
    growth_rate: int


def densenet121(
    num_classes: int = 1000, in_channels: int = 3, **options: Unpack[DenseNetOptions]
) -> Sequential:
    """DenseNet-121; see :func:`densenet`."""
    return densenet(121, num_classes, in_channels, **options)


def densenet169(
    num_classes: int = 1000, in_channels: int = 3, **options: Unpack[DenseNetOptions]
) -> Sequential:
    """DenseNet-169; see :func:`densenet`."""
    return densenet(169, num_classes, in_channels, **options)


def densenet201(
    num_classes: int = 1000, in_channels: int = 3, **options: Unpack[DenseNetOptions]
) -> Sequential:
    """DenseNet-201; see :func:`densenet`."""
    return densenet(201, num_classes, in_channels, **options)


def densenet(
    depth: int,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    small: bool = False,
    growth_rate: int = 32,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """DenseNet of 121, 169 or 201 layers with weights, for images of 224 x 224.

    Args:
        depth: how many layers on the longest way have weights.
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        small: the form for images of 32 x 32, which begins with a 3 x 3 convolution and no pool.
        growth_rate: channels that every layer of a block adds.
        weights: a safetensors file or a state dict, with this model's keys or torchvision's.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        ValueError: for another depth.
        StateDictError: if the weights do not fit.

    Source: Huang et al., "Densely connected convolutional networks", 2017; CS109B.
    """
    if depth not in _LAYERS:
        raise ValueError(f"depth must be one of {', '.join(map(str, _LAYERS))}, got {depth!r}")
    channels = 2 * growth_rate
    if small:
        stem = conv_norm_relu(in_channels, channels, 3)
    else:
        stem = [*conv_norm_relu(in_channels, channels, 7, stride=2), MaxPool2d(3, stride=2, padding=1)]
    blocks = _blocks(channels, _LAYERS[depth], growth_rate, True, 0.5, num_classes)
    model = Sequential(*stem, *blocks, backend=backend, seed=seed)
    return load_weights(model, weights, _torchvision_names(depth), _new_name)


def densenet_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 40,
    growth_rate: int = 12,
    bottleneck: bool = False,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """The paper's DenseNet for images of 32 x 32: three blocks of equally many layers.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        depth: how many layers have weights: 4 and a multiple of 3, or of 6 with bottlenecks.
        growth_rate: k, the channels that every layer of a block adds.
        bottleneck: the paper's DenseNet-BC, whose layers first go down to 4 k channels by a 1 x 1
            convolution, and which halves the channels between blocks.
        weights: a safetensors file or a state dict with this model's keys.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        ValueError: for a depth that gives no whole number of layers a block.
        StateDictError: if the weights do not fit.

    Source: Huang et al., "Densely connected convolutional networks", 2017; CS109B.
    """
    count, rest = divmod(depth - 4, 6 if bottleneck else 3)
    if rest or count < 1:
        raise ValueError(f"depth must be 4 plus a multiple of {6 if bottleneck else 3}, got {depth!r}")
    channels, compression = (2 * growth_rate, 0.5) if bottleneck else (16, 1.0)
    model = Sequential(
        conv(in_channels, channels, 3, bias=False),
        *_blocks(channels, (count,) * 3, growth_rate, bottleneck, compression, num_classes),
        backend=backend,
        seed=seed,
    )
    return load_weights(model, weights)


def dense_layer(in_channels: int, growth_rate: int, bottleneck: bool = True) -> Sequential:
    """Batch normalisation, ReLU and 3 x 3 convolution; first the same with 1 x 1 if ``bottleneck``."""
    layers: list[Layer] = []
    if bottleneck:
        inside = 4 * growth_rate
        layers += [BatchNorm2d(in_channels), ReLU(), conv(in_channels, inside, 1, bias=False)]
        in_channels = inside
    layers += [BatchNorm2d(in_channels), ReLU(), conv(in_channels, growth_rate, 3, bias=False)]
    return Sequential(*layers)


def dense_block(in_channels: int, layers: int, growth_rate: int, bottleneck: bool = True) -> DenseBlock:
    """Layers of which number l, from 1, has in_channels + growth_rate (l - 1) inputs."""
    return DenseBlock(
        *(dense_layer(in_channels + growth_rate * i, growth_rate, bottleneck) for i in range(layers))
    )


def transition(in_channels: int, out_channels: int) -> Sequential:
    """Between blocks: 1 x 1 convolution and a pool that halves the size."""
    return Sequential(
        BatchNorm2d(in_channels), ReLU(), conv(in_channels, out_channels, 1, bias=False), AvgPool2d(2)
    )


def _blocks(
    channels: int,
    layers: tuple[int, ...],
    growth_rate: int,
    bottleneck: bool,
    compression: float,
    num_classes: int,
) -> list[Layer]:
    """Dense blocks with transitions between them, and the logits."""
    parts: list[Layer] = []
    for count in layers:
        if parts:
            parts.append(transition(channels, int(channels * compression)))
            channels = int(channels * compression)
        parts.append(dense_block(channels, count, growth_rate, bottleneck))
        channels += count * growth_rate
    return [*parts, BatchNorm2d(channels), ReLU(), *pooled_classifier(channels, num_classes)]


def _torchvision_names(depth: int) -> list[str]:
    names = ["conv0", "norm0"]
    for block, count in enumerate(_LAYERS[depth], start=1):
        if block > 1:
            names += [f"transition{block - 1}.norm", f"transition{block - 1}.conv"]
        for layer in range(1, count + 1):
            prefix = f"denseblock{block}.denselayer{layer}"
            names += [f"{prefix}.norm1", f"{prefix}.conv1", f"{prefix}.norm2", f"{prefix}.conv2"]
    return [*(f"features.{name}" for name in (*names, "norm5")), "classifier"]


def _new_name(key: str) -> str:
    """The published weights have "norm.1" and "conv.1" where torchvision's own keys are "norm1", "conv1"."""
    return re.sub(r"\b(norm|conv)\.([12])\.", r"\1\2.", key)
