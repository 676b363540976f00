"""ResNet-18 on the digits, trained with Winograd's transforms and without, from the same start.

Rounding sets the two apart by as little as any other order of additions would; training then magnifies it. So
the first steps agree closely, and later ones in how well they learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import nbconv as nb
from nbconv.bench.options import Options, Row
from nbconv.typing import Array

_LEVELS = ("high", "highest")  # with Winograd's transforms, and without
_EPOCHS, _BATCH, _FIRST, _RATE = 4, 32, 5, 0.01
_TARGET = 0.01  # the most that the accuracies may differ by


def curves(options: Options) -> Iterator[Row]:
    """One row: losses and test accuracies of each epoch at both precisions."""
    yield measure("resnet18_32-digits", _resnet18, nb.data.digits(32), _EPOCHS)


def _resnet18() -> nb.Sequential:
    return nb.models.get("resnet18", small=True)(num_classes=10, in_channels=1, seed=0)


def measure(name: str, build: Callable[[], nb.Sequential], data: nb.data.Split, epochs: int) -> Row:
    """The row of a model that ``build`` makes anew with the same weights."""
    losses: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    before = nb.get_precision()
    try:
        for level in _LEVELS:
            nb.set_precision(level)
            losses[level], accuracies[level] = _train(build(), data, epochs)
    finally:
        nb.set_precision(before)
    steps = len(losses["high"]) // epochs
    pairs = list(zip(losses["high"], losses["highest"], strict=True))
    apart = abs(accuracies["high"][-1] - accuracies["highest"][-1])
    return {
        "name": name,
        "batch": _BATCH,
        "steps": steps,
        "loss": {
            level: [float(np.mean(values[i : i + steps])) for i in range(0, len(values), steps)]
            for level, values in losses.items()
        },
        "accuracy": accuracies,
        "first_steps_apart": max(abs(a - b) / b for a, b in pairs[:_FIRST]),
        "target": _TARGET,
        "held": apart <= _TARGET,
    }


def _train(model: nb.Sequential, data: nb.data.Split, epochs: int) -> tuple[list[float], list[float]]:
    """The loss of every step and the accuracy on the test images after every epoch."""
    x, labels = data.train.x, data.train.y
    loss, optimizer = nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=_RATE, momentum=0.9)
    rng = np.random.default_rng(0)
    losses: list[float] = []
    accuracies = []
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for first in range(0, len(x) - _BATCH + 1, _BATCH):
            batch = order[first : first + _BATCH]
            optimizer.zero_grad()
            y, backward = model.forward(model.prepare(x[batch]), True, input_grad=False)
            value, gradient = loss(y, labels[batch])
            backward(gradient)
            optimizer.step()
            losses.append(float(value))
        accuracies.append(_accuracy(model, data.test.x, data.test.y))
    return losses, accuracies


def _accuracy(model: nb.Sequential, x: Array, labels: Array) -> float:
    predicted = np.concatenate([model(x[i : i + 128]).argmax(axis=1) for i in range(0, len(x), 128)])
    return float((predicted == labels).mean())
