"""Where a classifier goes wrong: the confusion matrix and the worst mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.errors import DataError
from nbconv.inspect import twin
from nbconv.layers.base import Layer
from nbconv.typing import Array


@dataclass(frozen=True)
class Mistakes:
    """Examples that are classified wrongly, the worst first.

    Attributes:
        indices: where they are among the examples.
        labels: what they are.
        predictions: what they are taken for.
        losses: cross entropy of each: minus the logarithm of the probability given to the label.
        logits: (mistakes, classes).
    """

    indices: Array
    labels: Array
    predictions: Array
    losses: Array
    logits: Array

    def __len__(self) -> int:
        return len(self.indices)


def confusion_matrix(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int | None = None
) -> Array:
    """How many examples of each class, a row, are taken for each, a column; int64 (classes, classes).

    Args:
        labels: integers (N,).
        predictions: likewise.
        num_classes: None for as many as occur.

    Raises:
        DataError: for other shapes or types, or a class out of range.
    """
    true, taken_for = _classes(labels, "labels"), _classes(predictions, "predictions")
    if true.shape != taken_for.shape:
        raise DataError(f"confusion_matrix: {true.size} labels but {taken_for.size} predictions")
    largest = int(max(true.max(initial=-1), taken_for.max(initial=-1)))
    count = largest + 1 if num_classes is None else num_classes
    if largest >= count:
        raise DataError(f"confusion_matrix: class {largest} is none of {count}, 0 to {count - 1}")
    counted = np.bincount(true * count + taken_for, minlength=count * count)
    return counted.reshape(count, count)


def worst_mistakes(
    model: Layer, x: npt.ArrayLike, y: npt.ArrayLike, count: int | None = 16, *, batch_size: int = 256
) -> Mistakes:
    """The examples that a model is wrong about, those first whose label it thought least likely.

    Args:
        model: that gives logits (N, classes); a softmax at its end is left out.
        x: (N, ...) floating point.
        y: labels, integers (N,).
        count: at most so many; None for all.
        batch_size: examples at a time.

    Raises:
        DataError: for other shapes, or labels out of range.
    """
    examples, labels = twin.examples(x, images=False), _classes(y, "labels")
    if len(labels) != len(examples):
        raise DataError(f"worst_mistakes: {len(examples)} examples but {len(labels)} labels")
    logits = twin.logits(twin.logits_twin(model), examples, batch_size)
    twin.targets_of(logits, labels)
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    losses = np.log(np.exp(exact).sum(axis=1)) - exact[np.arange(len(labels)), labels]
    predictions = logits.argmax(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-losses[wrong], kind="stable")][:count]
    return Mistakes(worst, labels[worst], predictions[worst], losses[worst], logits[worst])


def _classes(values: npt.ArrayLike, name: str) -> Array:
    array = backends.to_numpy(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise DataError(f"expected integer {name} of shape (N,), got {array.dtype} {array.shape}")
    array = array.astype(np.int64)
    if array.size and array.min() < 0:
        raise DataError(f"expected {name} of at least 0, got {array.min()}")
    return array
