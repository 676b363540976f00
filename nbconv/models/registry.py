"""The models by name, for the command line and for loops over all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from nbconv.models.airbench import airbench
from nbconv.models.alexnet import alexnet, zfnet
from nbconv.models.densenet import densenet121, densenet169, densenet201, densenet_cifar
from nbconv.models.inception import googlenet
from nbconv.models.lenet import lenet5
from nbconv.models.mobilenet import mobilenet_v1, mobilenet_v2
from nbconv.models.resnet import plain18, plain34, resnet18, resnet34, resnet50, resnet101, resnet152
from nbconv.models.vgg import vgg11, vgg13, vgg16, vgg19
from nbconv.sequential import Sequential

Builder = Callable[..., Sequential]

SMALL_IMAGE = 32
"""Height and width of the images that small forms are for."""


class _Entry(NamedTuple):
    """A model: who builds it, for images of what height and width, and who builds its form for small ones."""

    build: Builder
    image_size: int
    build_small: Builder | None


def _both(build: Builder) -> _Entry:
    return _Entry(build, 224, partial(build, small=True))


_MODELS: dict[str, _Entry] = {
    "lenet5": _Entry(lenet5, SMALL_IMAGE, lenet5),
    "alexnet": _Entry(alexnet, 227, None),
    "zfnet": _Entry(zfnet, 224, None),
    "vgg11": _both(vgg11),
    "vgg13": _both(vgg13),
    "vgg16": _both(vgg16),
    "vgg19": _both(vgg19),
    "vgg11_bn": _both(partial(vgg11, batch_norm=True)),
    "vgg13_bn": _both(partial(vgg13, batch_norm=True)),
    "vgg16_bn": _both(partial(vgg16, batch_norm=True)),
    "vgg19_bn": _both(partial(vgg19, batch_norm=True)),
    "googlenet": _both(googlenet),
    "resnet18": _both(resnet18),
    "resnet34": _both(resnet34),
    "resnet50": _both(resnet50),
    "resnet101": _both(resnet101),
    "resnet152": _both(resnet152),
    "plain18": _both(plain18),
    "plain34": _both(plain34),
    "densenet121": _both(densenet121),
    "densenet169": _both(densenet169),
    "densenet201": _both(densenet201),
    "densenet_cifar": _Entry(densenet_cifar, SMALL_IMAGE, densenet_cifar),
    "mobilenet_v1": _both(mobilenet_v1),
    "mobilenet_v2": _both(mobilenet_v2),
    "airbench": _Entry(airbench, SMALL_IMAGE, airbench),
}


def names(*, small: bool = False) -> list[str]:
    """The names that :func:`get` knows, in their order in time; ``small``: of models for 32 x 32 images."""
    return [name for name, entry in _MODELS.items() if entry.build_small or not small]


def get(name: str, *, small: bool = False) -> Builder:
    """The function that builds the model of that name; it takes ``num_classes`` and ``in_channels``.

    Args:
        name: one of :func:`names`.
        small: the form for images of 32 x 32.

    Raises:
        ValueError: for an unknown name, or a model that has no small form.
    """
    entry = _entry(name)
    if not small:
        return entry.build
    if entry.build_small is None:
        raise ValueError(f"{name} has no form for images of {SMALL_IMAGE} x {SMALL_IMAGE}")
    return entry.build_small


def image_size(name: str) -> int:
    """The height and width of the images that the model of that name is for.

    Raises:
        ValueError: for an unknown name.
    """
    return _entry(name).image_size


def _entry(name: str) -> _Entry:
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(names())}")
    return _MODELS[name]
