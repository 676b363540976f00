"""GoogLeNet: modules that look at each place through windows of several sizes at once."""

from __future__ import annotations

from collections.abc import Callable

from nbconv.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
)
from nbconv.models.auxiliary import AuxiliaryHead, DeeplySupervised
from nbconv.models.blocks import conv, conv_relu
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential

Channels = tuple[int, int, int, int, int, int]
"""#1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj: the columns of the paper's table."""

Unit = Callable[..., list[Layer]]
"""What stands for a convolution with what follows it: as ``conv_relu(in_channels, out_channels, size)``."""

# The channels of each module; a pool that halves the size stands between the stages.
_STAGES: tuple[dict[str, Channels], ...] = (
    {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
    },
    {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    {
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    },
)
_HEADS = ("4a", "4d")  # the modules that auxiliary heads look at
_VARIANTS = ("paper", "torchvision")


def inception(in_channels: int, channels: Channels, unit: Unit = conv_relu, third: int = 5) -> Concat:
    """An Inception module: 1 x 1, 3 x 3 and 5 x 5 convolutions and a pool, all of the same input.

    1 x 1 convolutions reduce the channels in front of the larger windows and behind the pool, which is what
    makes it affordable.

    Args:
        in_channels: of the input.
        channels: of the six convolutions, in the order of the paper's table.
        unit: makes each convolution with what follows it.
        third: the third window's height and width.
    """
    one, three_reduced, three, five_reduced, five, pooled = channels
    return Concat(
        Sequential(*unit(in_channels, one, 1)),
        Sequential(*unit(in_channels, three_reduced, 1), *unit(three_reduced, three, 3)),
        Sequential(*unit(in_channels, five_reduced, 1), *unit(five_reduced, five, third)),
        Sequential(MaxPool2d(3, stride=1, padding=1), *unit(in_channels, pooled, 1)),
    )


def naive_inception(in_channels: int, one: int, three: int, five: int) -> Concat:
    """The module without its 1 x 1 reductions; the pool hands on every channel of the input."""
    return Concat(
        Sequential(*conv_relu(in_channels, one, 1)),
        Sequential(*conv_relu(in_channels, three, 3)),
        Sequential(*conv_relu(in_channels, five, 5)),
        MaxPool2d(3, stride=1, padding=1),
    )


def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    auxiliary: bool = False,
    small: bool = False,
    variant: str = "paper",
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """GoogLeNet, for images of 224 x 224.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        auxiliary: add the heads behind modules 4a and 4d; the model is then a
            :class:`~nbconv.models.DeeplySupervised`, to be trained with an ``AuxiliaryLoss``.
        small: the form for images of 32 x 32, which keeps their size up to the first modules.
        variant: "paper", or "torchvision" for the network whose weights torchvision has: it normalises
            batches instead of local responses, its convolutions have no biases, the third window of its
            modules is 3 x 3 instead of 5 x 5, its last pool is 2 x 2, and its heads pool otherwise.
        weights: a safetensors file or a state dict, with this model's keys or those of torchvision's variant;
            heads in it are passed over unless ``auxiliary``. torchvision's published weights expect images
            in [-1, 1] (``2 x - 1`` of x in [0, 1]), not with its usual means and deviations.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        ValueError: for another variant.
        StateDictError: if the weights do not fit.

    Source: Szegedy et al., "Going deeper with convolutions", 2014; CS6375.
    """
    if variant not in _VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, _VARIANTS))}, got {variant!r}")
    theirs = variant == "torchvision"
    unit: Unit = _conv_norm_relu if theirs else conv_relu
    layers = _stem(in_channels, unit, small, local_norm=not theirs)
    channels = 192
    for number, stage in enumerate(_STAGES):
        if number or not small:
            layers.append(MaxPool2d(2 if theirs and number == 2 else 3, stride=2, ceil_mode=True))
        for name, row in stage.items():
            layers.append(inception(channels, row, unit, third=3 if theirs else 5))
            channels = row[0] + row[2] + row[4] + row[5]
            if auxiliary and name in _HEADS:
                layers.append(_head(channels, num_classes, unit, adaptive=theirs))
    layers += [GlobalAvgPool2d(), Dropout(0.4), Dense(channels, num_classes)]
    build = DeeplySupervised if auxiliary else Sequential
    names = _torchvision_names(auxiliary) if theirs else []
    return load_weights(
        build(*layers, backend=backend, seed=seed),
        weights,
        names,
        rename=lambda key: None if key.startswith("aux") and not auxiliary else key,
    )


def _stem(in_channels: int, unit: Unit, small: bool, local_norm: bool) -> list[Layer]:
    """From the image to the 192 channels that the first module sees."""
    norms: list[list[Layer]] = [[LocalResponseNorm(5)] if local_norm else [] for _ in range(2)]
    if small:
        first = unit(in_channels, 64, 3)
    else:
        first = [*unit(in_channels, 64, 7, stride=2), MaxPool2d(3, stride=2, ceil_mode=True)]
    return [*first, *norms[0], *unit(64, 64, 1), *unit(64, 192, 3), *norms[1]]


def _head(channels: int, num_classes: int, unit: Unit, adaptive: bool) -> AuxiliaryHead:
    classifier = Sequential(
        AdaptiveAvgPool2d(4) if adaptive else AvgPool2d(5, stride=3),
        *unit(channels, 128, 1),
        Flatten(),
        Dense(4 * 4 * 128, 1024),
        ReLU(),
        Dropout(0.7),
        Dense(1024, num_classes),
    )
    return AuxiliaryHead(classifier)


def _conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> list[Layer]:
    return [
        conv(in_channels, out_channels, kernel_size, stride=stride, bias=False),
        BatchNorm2d(out_channels, eps=1e-3),
        ReLU(),
    ]


def _torchvision_names(auxiliary: bool) -> list[str]:
    units = ["conv1", "conv2", "conv3"]
    names: list[str] = []
    for stage in _STAGES:
        for module in stage:
            units += [f"inception{module}.branch{b}" for b in ("1", "2.0", "2.1", "3.0", "3.1", "4.1")]
            if auxiliary and module in _HEADS:
                units.append(f"aux{_HEADS.index(module) + 1}.conv")
    for unit in units:
        names += [f"{unit}.conv", f"{unit}.bn"]
        if unit.startswith("aux"):
            names += [unit.replace("conv", "fc1"), unit.replace("conv", "fc2")]
    return [*names, "fc"]
