"""What is raced on a GPU, and how far ahead nbconv wants to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import nbconv as nb
from nbconv.bench import cases
from nbconv.typing import Pair, Shape

PASSES = ("forward", "backward_input", "backward_weight")
CONV_BATCH = 64
CONV_TARGETS: Mapping[str, float] = {"highest": 0.9, "high": 0.6, "medium": 0.6}
"""By precision, the least geometric mean of PyTorch's time over nbconv's that is wanted."""
COPY_TARGET = 0.8
"""Of the bandwidth of a copy, what kernels bound by memory shall reach."""


@dataclass(frozen=True)
class Convolution:
    """A convolution as it occurs in a network.

    Attributes:
        input_shape: with the batch.
        weight_shape: (out, in / groups, height, width).
        count: how many of the network's layers are like it.
    """

    input_shape: Shape
    weight_shape: Shape
    stride: Pair
    padding: tuple[Pair, Pair]
    groups: int
    output_shape: Shape
    count: int = 1

    @property
    def name(self) -> str:
        """Such as "64x56x56 k64 3x3 s1"."""
        _, c, h, w = self.input_shape
        out, _, rows, columns = self.weight_shape
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"{c}x{h}x{w} k{out} {rows}x{columns} s{self.stride[0]}{groups}"


class Network(NamedTuple):
    """A network of ``nbconv.bench.cases``, with batches and targets, None for no wish."""

    case: cases.Case
    inference: Mapping[int, float | None]
    training: Mapping[int, float | None]


_BATCHES: dict[str, tuple[dict[int, float | None], dict[int, float | None]]] = {
    "resnet50": ({1: None, 64: None}, {64: None}),
    "vgg16": ({1: None, 32: None}, {32: None}),
    "resnet18_32": ({1: None, 128: None}, {128: 1.0}),
    "mobilenet_v1": ({1: None, 64: None}, {64: None}),
    "lenet5": ({1: None, 128: None}, {128: 1.0}),
}


def networks(wanted: list[str] | None = None) -> list[Network]:
    """The networks of these names, all by default.

    Raises:
        ValueError: for an unknown name.
    """
    for name in wanted or []:
        if name not in _BATCHES:
            raise ValueError(f"unknown model {name!r}; on a GPU there are {', '.join(_BATCHES)}")
    names = list(_BATCHES) if wanted is None else wanted
    return [Network(cases.select([name])[0], *_BATCHES[name]) for name in names]


def convolutions(model: nb.Sequential, shape: Shape, batch: int = CONV_BATCH) -> list[Convolution]:
    """The distinct convolutions that an input of ``shape`` (C, H, W) meets, in order."""
    found: dict[tuple[object, ...], Convolution] = {}
    for step in model.trace((batch, *shape)):
        if not isinstance(step.layer, nb.Conv2d):
            continue
        layer = step.layer
        stride, padding, _, groups = layer.window
        key = step.input_shape, layer.weight.shape, stride, padding, groups
        count = found[key].count + 1 if key in found else 1
        found[key] = Convolution(*key, step.output_shape, count)
    return list(found.values())
