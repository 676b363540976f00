"""ResNets, whose layers learn what to add to their input, and their plain twins, which lack the addition."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Unpack

from nbconv.layers import Layer, MaxPool2d, ReLU, Residual
from nbconv.models.blocks import conv_norm, conv_norm_relu, pooled_classifier
from nbconv.models.options import Options
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_DEEP = 50  # from here on, blocks are bottlenecks


class ResNetOptions(Options, total=False):
    """What :func:`resnet` takes by name."""

    small: bool
    width: int


def resnet18(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[ResNetOptions]) -> Sequential:
    """ResNet-18; see :func:`resnet`."""
    return resnet(18, num_classes, in_channels, **options)


def resnet34(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[ResNetOptions]) -> Sequential:
    """ResNet-34; see :func:`resnet`."""
    return resnet(34, num_classes, in_channels, **options)


def resnet50(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[ResNetOptions]) -> Sequential:
    """ResNet-50; see :func:`resnet`."""
    return resnet(50, num_classes, in_channels, **options)


def resnet101(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[ResNetOptions]) -> Sequential:
    """ResNet-101; see :func:`resnet`."""
    return resnet(101, num_classes, in_channels, **options)


def resnet152(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[ResNetOptions]) -> Sequential:
    """ResNet-152; see :func:`resnet`."""
    return resnet(152, num_classes, in_channels, **options)


def plain18(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[ResNetOptions]) -> Sequential:
    """ResNet-18 without its shortcuts; see :func:`plain`."""
    return plain(18, num_classes, in_channels, **options)


def plain34(num_classes: int = 1000, in_channels: int = 3, **options: Unpack[ResNetOptions]) -> Sequential:
    """ResNet-34 without its shortcuts; see :func:`plain`."""
    return plain(34, num_classes, in_channels, **options)


def resnet(
    depth: int,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    small: bool = False,
    width: int = 64,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """ResNet of 18, 34, 50, 101 or 152 layers with weights, for images of 224 x 224.

    In bottlenecks, the 3 x 3 convolution takes the stride: torchvision's form ("v1.5"). In the paper, the
    first 1 x 1 convolution does, with the same parameters and a few multiply-adds less.

    Args:
        depth: how many layers on the longest way have weights.
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        small: the form for images of 32 x 32, which begins with a 3 x 3 convolution and no pool.
        width: channels of the first stage, which each later one doubles.
        weights: a safetensors file or a state dict, with this model's keys or torchvision's.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        ValueError: for another depth.
        StateDictError: if the weights do not fit.

    Source: He et al., "Deep residual learning for image recognition", 2015; CS109B.
    """
    _check_depth(depth, _BLOCKS)
    block, expansion = (bottleneck, 4) if depth >= _DEEP else (basic_block, 1)
    layers = _layers(block, _BLOCKS[depth], expansion, num_classes, in_channels, small, width)
    model = Sequential(*layers, backend=backend, seed=seed)
    return load_weights(model, weights, _torchvision_names(depth))


def plain(
    depth: int,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    small: bool = False,
    width: int = 64,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """ResNet-18 or -34 without its shortcuts: what ResNets are measured against.

    Arguments are as of :func:`resnet`; weights have this model's keys.

    Raises:
        ValueError: for another depth.
        StateDictError: if the weights do not fit.

    Source: He et al., "Deep residual learning for image recognition", 2015.
    """
    _check_depth(depth, [depth for depth in _BLOCKS if depth < _DEEP])
    layers = _layers(_plain_block, _BLOCKS[depth], 1, num_classes, in_channels, small, width)
    return load_weights(Sequential(*layers, backend=backend, seed=seed), weights)


def basic_block(in_channels: int, channels: int, stride: int = 1) -> Residual:
    """Two 3 x 3 convolutions and a shortcut past them."""
    return Residual(
        _two_convolutions(in_channels, channels, stride), _shortcut(in_channels, channels, stride)
    )


def bottleneck(in_channels: int, channels: int, stride: int = 1) -> Residual:
    """1 x 1 to fewer ``channels``, 3 x 3, 1 x 1 to four times as many, and a shortcut past them."""
    body = Sequential(
        *conv_norm_relu(in_channels, channels, 1),
        *conv_norm_relu(channels, channels, 3, stride=stride),
        *conv_norm(channels, 4 * channels, 1),
    )
    return Residual(body, _shortcut(in_channels, 4 * channels, stride))


def _plain_block(in_channels: int, channels: int, stride: int) -> Sequential:
    return _two_convolutions(in_channels, channels, stride).append(ReLU())


def _two_convolutions(in_channels: int, channels: int, stride: int) -> Sequential:
    return Sequential(
        *conv_norm_relu(in_channels, channels, 3, stride=stride), *conv_norm(channels, channels, 3)
    )


def _shortcut(in_channels: int, out_channels: int, stride: int) -> Sequential | None:
    """A 1 x 1 convolution where the sum's terms would differ in shape; else the input itself."""
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(*conv_norm(in_channels, out_channels, 1, stride=stride))


def _layers(
    block: Callable[[int, int, int], Layer],
    blocks: tuple[int, ...],
    expansion: int,
    num_classes: int,
    in_channels: int,
    small: bool,
    width: int,
) -> list[Layer]:
    """A stem, four stages of blocks, each with twice the channels at half the size, and the logits."""
    if small:
        layers = conv_norm_relu(in_channels, width, 3)
    else:
        layers = [*conv_norm_relu(in_channels, width, 7, stride=2), MaxPool2d(3, stride=2, padding=1)]
    channels = width
    for stage, count in enumerate(blocks):
        inside = width * 2**stage
        strides = [1 if stage == 0 else 2, *[1] * (count - 1)]
        inputs = [channels, *[inside * expansion] * (count - 1)]
        layers.append(Sequential(*(block(c, inside, s) for c, s in zip(inputs, strides, strict=True))))
        channels = inside * expansion
    return [*layers, *pooled_classifier(channels, num_classes)]


def _torchvision_names(depth: int) -> list[str]:
    names = ["conv1", "bn1"]
    for stage, count in enumerate(_BLOCKS[depth]):
        for block in range(count):
            prefix = f"layer{stage + 1}.{block}"
            for i in range(3 if depth >= _DEEP else 2):
                names += [f"{prefix}.conv{i + 1}", f"{prefix}.bn{i + 1}"]
            # The first block of a stage changes the shape; only that of ResNet-18's and -34's first does not.
            if block == 0 and (stage or depth >= _DEEP):
                names += [f"{prefix}.downsample.0", f"{prefix}.downsample.1"]
    return [*names, "fc"]


def _check_depth(depth: int, known: Collection[int]) -> None:
    if depth not in known:
        raise ValueError(f"depth must be one of {', '.join(map(str, known))}, got {depth!r}")
