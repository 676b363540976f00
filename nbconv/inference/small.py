"""Small networks in one compiled call, which the CPU backend offers (``chain``).

What a call costs apart from arithmetic, a few microseconds a layer, is most of the time of a network such as
LeNet-5 on one image. A plan of nothing but convolutions, maximum pools and dense layers, one after another,
small enough for the cache, therefore becomes one call. The rule for weights is that of ``weights``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from nbconv.errors import PlacedError
from nbconv.inference.steps import ConvStep, LayerStep, Step
from nbconv.inference.weights import Snapshot
from nbconv.layers import Dense, Flatten, MaxPool2d, ReLU, ReLU6
from nbconv.typing import Array, Shape
from nbconv_kernels.geometry import pool2d_geometry

_ACTIVATIONS: dict[type, str] = {ReLU: "relu", ReLU6: "relu6"}
_SIZES_REMEMBERED = 16
_WITH_CHAINS = "nbconv_kernels.cpu"


class _Made(NamedTuple):
    """A chain, what it was made from, and the shape of an output in memory; no chain where none can be.

    No source: somebody held the weights.
    """

    source: Snapshot | None
    chain: Any
    output: Shape


class SmallNetwork:
    """The steps of a plan as one call, for the sizes of image where they are one."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = list(steps)
        self._room = _room(steps[0].members[0][1].ops.__name__) if steps else None
        kinds = (Dense, Flatten, MaxPool2d, ReLU, ReLU6)
        multiplies = any(isinstance(step, ConvStep) or type(step.members[0][1]) is Dense for step in steps)
        # Without weights there would be nothing to gain, and perhaps no row in the table.
        self.is_possible = (self._room is not None and multiplies) and all(
            (isinstance(step, ConvStep) and step.is_plain and step.conv.groups == 1)
            or (isinstance(step, LayerStep) and type(step.members[0][1]) in kinds)
            for step in steps
        )
        self._chains: dict[Shape, _Made] = {}

    def run(self, x: Array) -> Array | None:
        """The output for ``x``; None where the network is not small, or ``x`` does not fit."""
        size = x.shape[1:]
        found = self._chains.get(size)
        if found is None or not (found.source is None or found.source.is_current):
            found = self._make(size)
            if found.chain is None or found.source is not None:
                if len(self._chains) >= _SIZES_REMEMBERED:
                    self._chains.clear()
                self._chains[size] = found
        if found.chain is None or x.dtype != self._steps[0].members[0][1].dtype:
            return None
        output = found.output
        flat = np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).reshape(-1)
        y = np.empty((len(x), *output), x.dtype)
        found.chain.run(flat, y.reshape(-1))
        return y.transpose(0, 3, 1, 2) if len(output) == 3 else y

    def _make(self, size: Shape) -> _Made:
        """The chain, or that there is none; without a source while somebody could change the weights.

        Such a chain serves one call. Layers one by one would do as well, but add up in another order, and the
        last bits of a result must not depend on who else holds the weights at the moment.
        """
        nothing = _Made(None, None, ())
        try:
            shapes = self._shapes((1, *size))
        except PlacedError:
            return nothing  # the layers will say so, with their place
        layers = [step.members[0][1] for step in self._steps]
        parameters = [p for step in self._steps for _, layer in step.members for p in layer.parameters()]
        elements = max(math.prod(shape) for shape in shapes)
        itemsize = layers[0].dtype.itemsize
        if self._room is None or not self._room.fits(sum(p.size for p in parameters), elements, itemsize):
            return nothing
        norms = [s.weights.norm for s in self._steps if isinstance(s, ConvStep) and s.weights.norm]
        source = Snapshot.of(parameters, norms)
        chain = self._room.Chain(math.prod(size), layers[0].dtype)
        image: Shape = ()  # (C, H, W) of what is flat in memory as (H, W, C)
        index = 0
        while index < len(self._steps):
            step, layer = self._steps[index], layers[index]
            shape = shapes[index]
            following = type(layers[index + 1]) if index + 1 < len(layers) else None
            if isinstance(step, ConvStep):
                weight, bias, _ = step.weights.get()
                chain.convolution(weight, bias, step.conv.geometry(shape), step.activation)
            elif isinstance(layer, MaxPool2d):
                chain.max_pool(pool2d_geometry(shape, *layer.window))
            elif isinstance(layer, Flatten):
                image = shape[1:] if len(shape) == 4 else image
            elif isinstance(layer, Dense):
                matrix = layer.weight.peek()
                if image:
                    matrix = matrix.reshape(-1, *image).transpose(0, 2, 3, 1).reshape(matrix.shape)
                    image = ()
                bias = None if layer.bias is None else layer.bias.peek()
                activation = None if following is None else _ACTIVATIONS.get(following)
                chain.dense(matrix, bias, activation)
                index += activation is not None
            else:
                return nothing  # an activation that nothing in front takes in
            index += 1
        if image:
            return nothing  # the output would have to be put in order
        last = shapes[-1][1:]
        return _Made(source, chain, (*last[1:], last[0]) if len(last) == 3 else last)

    def _shapes(self, shape: Shape) -> list[Shape]:
        """The shapes in front of the steps and behind the last."""
        shapes = [shape]
        for step in self._steps:
            shapes.append(step.members[0][1].output_shape(shapes[-1]))
        return shapes


def _room(backend: str) -> Any:
    """The module for chains that a backend has, if it has one."""
    return import_module(f"{backend}.chain") if backend == _WITH_CHAINS else None
