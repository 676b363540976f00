"""The keys and shapes of torchvision's state dicts, written down from the structure of its modules.

torchvision is not needed: these are facts. That they are the right ones shows in the published numbers of
parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable

PARAMETERS = {
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 6_624_904,
    "googlenet_auxiliary": 13_004_888,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "mobilenet_v2": 3_504_872,
}
"""As torchvision's documentation gives them."""


class Keys(dict[str, tuple[int, ...]]):
    """Key -> shape, in the order of the modules."""

    def conv(self, name: str, out_channels: int, in_channels: int, size: int, bias: bool = False) -> None:
        self[f"{name}.weight"] = (out_channels, in_channels, size, size)
        if bias:
            self[f"{name}.bias"] = (out_channels,)

    def norm(self, name: str, channels: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            self[f"{name}.{leaf}"] = (channels,)
        self[f"{name}.num_batches_tracked"] = ()

    def dense(self, name: str, out_features: int, in_features: int) -> None:
        self[f"{name}.weight"] = (out_features, in_features)
        self[f"{name}.bias"] = (out_features,)

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        return sum(math.prod(shape) for key, shape in self.items() if not key.endswith(buffers))


def alexnet() -> Keys:
    keys = Keys()
    keys.conv("features.0", 64, 3, 11, bias=True)
    keys.conv("features.3", 192, 64, 5, bias=True)
    keys.conv("features.6", 384, 192, 3, bias=True)
    keys.conv("features.8", 256, 384, 3, bias=True)
    keys.conv("features.10", 256, 256, 3, bias=True)
    for index, shape in ((1, (4096, 9216)), (4, (4096, 4096)), (6, (1000, 4096))):
        keys.dense(f"classifier.{index}", *shape)
    return keys


def vgg(letters: str, batch_norm: bool = False) -> Keys:
    """``letters``: the channels in units of 64, "p" for a pool."""
    keys, index, channels = Keys(), 0, 3
    for letter in letters:
        if letter == "p":
            index += 1
            continue
        out = 64 * int(letter)
        keys.conv(f"features.{index}", out, channels, 3, bias=True)
        if batch_norm:
            keys.norm(f"features.{index + 1}", out)
        index, channels = index + 2 + batch_norm, out
    for index, shape in ((0, (4096, 25088)), (3, (4096, 4096)), (6, (1000, 4096))):
        keys.dense(f"classifier.{index}", *shape)
    return keys


def resnet(blocks: tuple[int, ...], bottleneck: bool) -> Keys:
    keys = Keys()
    keys.conv("conv1", 64, 3, 7)
    keys.norm("bn1", 64)
    channels = 64
    for stage, count in enumerate(blocks, start=1):
        width = 32 * 2**stage
        out = 4 * width if bottleneck else width
        for block in range(count):
            name = f"layer{stage}.{block}"
            sizes = [(width, 1), (width, 3), (out, 1)] if bottleneck else [(width, 3), (width, 3)]
            inputs = channels
            for i, (outputs, size) in enumerate(sizes, start=1):
                keys.conv(f"{name}.conv{i}", outputs, inputs, size)
                keys.norm(f"{name}.bn{i}", outputs)
                inputs = outputs
            if channels != out:
                keys.conv(f"{name}.downsample.0", out, channels, 1)
                keys.norm(f"{name}.downsample.1", out)
            channels = out
    keys.dense("fc", 1000, channels)
    return keys


def densenet(blocks: tuple[int, ...]) -> Keys:
    keys = Keys()
    keys.conv("features.conv0", 64, 3, 7)
    keys.norm("features.norm0", 64)
    channels = 64
    for i, count in enumerate(blocks, start=1):
        for j in range(1, count + 1):
            name = f"features.denseblock{i}.denselayer{j}"
            keys.norm(f"{name}.norm1", channels)
            keys.conv(f"{name}.conv1", 128, channels, 1)
            keys.norm(f"{name}.norm2", 128)
            keys.conv(f"{name}.conv2", 32, 128, 3)
            channels += 32
        if i < len(blocks):
            keys.norm(f"features.transition{i}.norm", channels)
            keys.conv(f"features.transition{i}.conv", channels // 2, channels, 1)
            channels //= 2
    keys.norm("features.norm5", channels)
    keys.dense("classifier", 1000, channels)
    return keys


def mobilenet_v2() -> Keys:
    keys = Keys()
    keys.conv("features.0.0", 32, 3, 3)
    keys.norm("features.0.1", 32)
    widths = [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]
    channels = 32
    for block, out in enumerate(widths, start=1):
        name, inside, i = f"features.{block}.conv", channels if block == 1 else 6 * channels, 0
        if block > 1:
            keys.conv(f"{name}.0.0", inside, channels, 1)
            keys.norm(f"{name}.0.1", inside)
            i = 1
        keys.conv(f"{name}.{i}.0", inside, 1, 3)
        keys.norm(f"{name}.{i}.1", inside)
        keys.conv(f"{name}.{i + 1}", out, inside, 1)
        keys.norm(f"{name}.{i + 2}", out)
        channels = out
    keys.conv("features.18.0", 1280, 320, 1)
    keys.norm("features.18.1", 1280)
    keys.dense("classifier.1", 1000, 1280)
    return keys


def googlenet(auxiliary: bool = False) -> Keys:
    keys = Keys()

    def unit(name: str, out: int, channels: int, size: int) -> None:
        keys.conv(f"{name}.conv", out, channels, size)
        keys.norm(f"{name}.bn", out)

    unit("conv1", 64, 3, 7)
    unit("conv2", 64, 64, 1)
    unit("conv3", 192, 64, 3)
    for name, channels, one, three_reduced, three, five_reduced, five, pooled in (
        ("3a", 192, 64, 96, 128, 16, 32, 32),
        ("3b", 256, 128, 128, 192, 32, 96, 64),
        ("4a", 480, 192, 96, 208, 16, 48, 64),
        ("4b", 512, 160, 112, 224, 24, 64, 64),
        ("4c", 512, 128, 128, 256, 24, 64, 64),
        ("4d", 512, 112, 144, 288, 32, 64, 64),
        ("4e", 528, 256, 160, 320, 32, 128, 128),
        ("5a", 832, 256, 160, 320, 32, 128, 128),
        ("5b", 832, 384, 192, 384, 48, 128, 128),
    ):
        module = f"inception{name}"
        unit(f"{module}.branch1", one, channels, 1)
        unit(f"{module}.branch2.0", three_reduced, channels, 1)
        unit(f"{module}.branch2.1", three, three_reduced, 3)
        unit(f"{module}.branch3.0", five_reduced, channels, 1)
        unit(f"{module}.branch3.1", five, five_reduced, 3)
        unit(f"{module}.branch4.1", pooled, channels, 1)
    if auxiliary:
        for head, channels in (("aux1", 512), ("aux2", 528)):
            unit(f"{head}.conv", 128, channels, 1)
            keys.dense(f"{head}.fc1", 1024, 2048)
            keys.dense(f"{head}.fc2", 1000, 1024)
    keys.dense("fc", 1000, 1024)
    return keys


_VGG = {
    "vgg11": "1p2p44p88p88p",
    "vgg13": "11p22p44p88p88p",
    "vgg16": "11p22p444p888p888p",
    "vgg19": "11p22p4444p8888p8888p",
}
KEYS: dict[str, Callable[[], Keys]] = {
    "alexnet": alexnet,
    **{name: lambda letters=letters: vgg(letters) for name, letters in _VGG.items()},
    **{f"{name}_bn": lambda letters=letters: vgg(letters, True) for name, letters in _VGG.items()},
    "googlenet": googlenet,
    "googlenet_auxiliary": lambda: googlenet(True),
    "resnet18": lambda: resnet((2, 2, 2, 2), False),
    "resnet34": lambda: resnet((3, 4, 6, 3), False),
    "resnet50": lambda: resnet((3, 4, 6, 3), True),
    "resnet101": lambda: resnet((3, 4, 23, 3), True),
    "resnet152": lambda: resnet((3, 8, 36, 3), True),
    "densenet121": lambda: densenet((6, 12, 24, 16)),
    "densenet169": lambda: densenet((6, 12, 32, 32)),
    "densenet201": lambda: densenet((6, 12, 48, 32)),
    "mobilenet_v2": mobilenet_v2,
}
