"""The networks that are raced: with what batches, and how far ahead nbconv wants to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

import nbconv as nb
from nbconv.typing import Array

SEED = 0


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        name: what ``--models`` knows it by.
        title: what reports call it.
        build: makes it; weights come from :data:`SEED`.
        shape: (C, H, W) of one example.
        classes: logits.
        inference: batches, and the least ratio wanted (best peer's time over nbconv's), None for no wish.
        training: the same for a whole training step.
    """

    name: str
    title: str
    build: Callable[[], nb.Sequential]
    shape: tuple[int, int, int]
    classes: int
    inference: Mapping[int, float | None] = field(default_factory=dict)
    training: Mapping[int, float | None] = field(default_factory=dict)

    def model(self) -> nb.Sequential:
        """The network, with batch normalisation as if it had been trained, so that its folding shows."""
        model = self.build()
        rng = np.random.default_rng(SEED)
        for _, layer in model.named_layers():
            if isinstance(layer, nb.BatchNorm2d):
                shape = (layer.num_features,)
                if layer.weight is not None and layer.bias is not None:
                    layer.weight.data[:] = rng.uniform(0.6, 1.2, shape)
                    layer.bias.data[:] = rng.normal(0.0, 0.1, shape)
                layer.running_mean = rng.normal(0.0, 0.1, shape).astype(layer.dtype)
                layer.running_var = rng.uniform(0.6, 1.4, shape).astype(layer.dtype)
        return model

    def images(self, batch: int) -> Array:
        """(batch, C, H, W) float32 noise, row-major as files have it."""
        rng = np.random.default_rng(SEED)
        return rng.standard_normal((batch, *self.shape), dtype=np.float32)

    def targets(self, batch: int) -> Array:
        """(batch,) int64 classes."""
        return np.random.default_rng(SEED + 1).integers(0, self.classes, batch)


def _vgg16_bn() -> nb.Sequential:
    """Thirteen convolutions, and one dense layer as networks for small images have it."""
    full = nb.models.vgg16(10, batch_norm=True, small=True)
    features = [layer for layer in full if not isinstance(layer, nb.Flatten | nb.Dense | nb.Dropout)]
    return nb.Sequential(*features[: 13 * 3 + 5], nb.Flatten(), nb.Dense(512, 10), seed=SEED)


_IMAGENET = (3, 224, 224)
_SMALL = (3, 32, 32)

CASES = (
    Case(
        "lenet5",
        "LeNet-5",
        lambda: nb.models.lenet5(seed=SEED),
        (1, 32, 32),
        10,
        inference={1: 1.0, 128: 1.0},
        training={128: 2.0},
    ),
    Case("vgg16_bn_32", "VGG-16+BN 32x32", _vgg16_bn, _SMALL, 10, inference={32: 1.7}, training={64: 2.0}),
    Case(
        "resnet18_32",
        "ResNet-18 32x32",
        lambda: nb.models.resnet18(10, small=True, seed=SEED),
        _SMALL,
        10,
        inference={32: 1.7},
        training={32: 2.0},
    ),
    Case(
        "mobilenet_v1",
        "MobileNet-v1 224",
        lambda: nb.models.mobilenet_v1(seed=SEED),
        _IMAGENET,
        1000,
        inference={1: 1.0, 8: None},
        training={8: 1.5},
    ),
    Case(
        "googlenet",
        "GoogLeNet 224",
        lambda: nb.models.googlenet(seed=SEED),
        _IMAGENET,
        1000,
        inference={8: None},
        training={8: 1.7},
    ),
    Case(
        "googlenet_bn",
        "GoogLeNet+BN 224",
        lambda: nb.models.googlenet(variant="torchvision", seed=SEED),
        _IMAGENET,
        1000,
        inference={8: None},
        training={8: 1.7},
    ),
    Case(
        "resnet18",
        "ResNet-18 224",
        lambda: nb.models.resnet18(seed=SEED),
        _IMAGENET,
        1000,
        inference={1: 1.1},
    ),
    Case(
        "resnet50",
        "ResNet-50 224",
        lambda: nb.models.resnet50(seed=SEED),
        _IMAGENET,
        1000,
        inference={1: 1.15, 8: 1.15},
        training={8: 1.7},
    ),
    Case("vgg16", "VGG-16 224", lambda: nb.models.vgg16(seed=SEED), _IMAGENET, 1000, inference={1: 1.1}),
)


def names() -> list[str]:
    """What :func:`select` knows."""
    return [case.name for case in CASES]


def select(wanted: list[str] | None) -> list[Case]:
    """The cases of these names, all by default, in the order of :data:`CASES`.

    Raises:
        ValueError: for an unknown name.
    """
    for name in wanted or []:
        if name not in names():
            raise ValueError(f"unknown model {name!r}; there are {', '.join(names())}")
    return [case for case in CASES if wanted is None or case.name in wanted]
