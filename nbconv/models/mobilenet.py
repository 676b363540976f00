"""MobileNets: convolutions in two steps, one that looks around and one that mixes channels."""

from __future__ import annotations

from nbconv.layers import Dense, Dropout, GlobalAvgPool2d, Layer, ReLU6, Residual
from nbconv.models.blocks import conv_norm, conv_norm_relu, pooled_classifier
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential

# (channels, stride) of each separable convolution.
_V1_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
# (expansion, channels, how many blocks, stride of the first).
_V2_STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
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


def inverted_residual(in_channels: int, out_channels: int, stride: int = 1, expansion: int = 6) -> Layer:
    """1 x 1 to more channels, depthwise 3 x 3, 1 x 1 to few, with no ReLU behind those: they are bottlenecks.

    A shortcut leads past them where input and output have the same shape.
    """
    inside = in_channels * expansion
    layers: list[Layer] = []
    if expansion != 1:
        layers += [*conv_norm(in_channels, inside, 1), ReLU6()]
    body = Sequential(
        *layers,
        *(*conv_norm(inside, inside, 3, stride=stride, groups=inside), ReLU6()),
        *conv_norm(inside, out_channels, 1),
    )
    return Residual(body, activation=None) if stride == 1 and in_channels == out_channels else body


def mobilenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_multiplier: float = 1.0,
    small: bool = False,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """MobileNetV2, for images of 224 x 224.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        width_multiplier: thins or widens every layer, to multiples of 8 channels; the last convolution is
            only ever widened.
        small: the form for images of 32 x 32, whose first two strides are 1.
        weights: a safetensors file or a state dict, with this model's keys or torchvision's.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        StateDictError: if the weights do not fit.

    Source: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018.
    """
    channels = _multiple_of_8(32 * width_multiplier)
    layers: list[Layer] = [*conv_norm(in_channels, channels, 3, stride=1 if small else 2), ReLU6()]
    for number, (expansion, full_width, count, first_stride) in enumerate(_V2_STAGES):
        out_channels = _multiple_of_8(full_width * width_multiplier)
        for i in range(count):
            stride = first_stride if i == 0 and not (small and number == 1) else 1
            layers.append(inverted_residual(channels, out_channels, stride, expansion))
            channels = out_channels
    last = _multiple_of_8(1280 * max(1.0, width_multiplier))
    layers += [*conv_norm(channels, last, 1), ReLU6(), GlobalAvgPool2d(), Dropout(0.2)]
    layers.append(Dense(last, num_classes))
    model = Sequential(*layers, backend=backend, seed=seed)
    return load_weights(model, weights, _torchvision_names_of_v2())


def _scaled(channels: int, width_multiplier: float) -> int:
    return max(1, int(channels * width_multiplier))


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that would take away more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _torchvision_names_of_v2() -> list[str]:
    names = ["features.0.0", "features.0.1"]
    expansions = [expansion for expansion, _, count, _ in _V2_STAGES for _ in range(count)]
    for block, expansion in enumerate(expansions, start=1):
        prefix = f"features.{block}.conv"
        convolutions = 1 if expansion == 1 else 2  # that have a ReLU behind them
        for i in range(convolutions):
            names += [f"{prefix}.{i}.0", f"{prefix}.{i}.1"]
        names += [f"{prefix}.{convolutions}", f"{prefix}.{convolutions + 1}"]
    last = len(expansions) + 1
    return [*names, f"features.{last}.0", f"features.{last}.1", "classifier.1"]
