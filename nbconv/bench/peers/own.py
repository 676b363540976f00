"""nbconv itself, with the peers' two functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import nbconv as nb
from nbconv.bench.peers.base import LR, MOMENTUM, Step
from nbconv.typing import Array


def inference(model: nb.Sequential, x: Array) -> Callable[[], Array]:
    """The output for ``x``; laying it out channels last is part of the time."""
    return lambda: model(x)


def training(model: nb.Sequential, x: Array, targets: Array) -> Step:
    """A training step."""
    loss = nb.CrossEntropyLoss()
    optimizer = nb.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)

    def gradients() -> float:
        optimizer.zero_grad()
        y, backprop = model.forward(x, training=True, input_grad=False)
        value, dy = loss(y, targets)
        backprop(dy)
        return float(value)

    def run() -> None:
        gradients()
        optimizer.step()

    def probe() -> tuple[float, Array]:
        value = gradients()
        return value, np.concatenate([p.grad.ravel() for p in model.parameters() if p.grad is not None])

    return Step(run, probe)
