"""Measuring a model on batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv.callbacks.base import TrainingState
from nbconv.training.batches import Batch
from nbconv.training.checks import are_labels
from nbconv.training.means import Means
from nbconv.training.nonfinite import explain
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.losses import Loss
    from nbconv.sequential import Sequential


def evaluate(
    model: Sequential, loss: Loss, batches: Iterable[Batch], state: TrainingState | None = None
) -> dict[str, float]:
    """The means of what the batches measure, in evaluation mode.

    Given the state of a run, it stops where the run is to stop, and at a loss that is NaN or infinite.

    Raises:
        NonFiniteError: see above.
    """
    loss, means = placed(loss, model.backend), Means()
    value_of = getattr(loss, "value", lambda outputs, targets: loss(outputs, targets)[0])
    for inputs, targets in batches:
        outputs = model(inputs)
        value = value_of(outputs, targets)
        if state is not None and not math.isfinite(value):
            raise explain(model, inputs, f"the validation loss is {value} after epoch {state.epoch + 1}")
        means.add(len(inputs), measure(loss, outputs, targets, value))
        if state is not None and state.history.interrupted:
            break
    return means.logs()


def placed(loss: Loss, backend: str) -> Loss:
    """The loss, on a backend unless it names one itself."""
    if getattr(loss, "backend", "its own") is not None:
        return loss
    loss = copy.copy(loss)
    loss.backend = backend
    return loss


def measure(loss: Loss, outputs: Any, targets: Array, value: float) -> dict[str, float]:
    """One batch's loss and accuracy; of outputs that are a tuple, the first one's."""
    if isinstance(outputs, tuple):
        outputs = outputs[0]
    if not are_labels(targets) or outputs.ndim != targets.ndim + 1:
        return {"loss": value}
    right = outputs.argmax(axis=1) == targets
    ignored = getattr(loss, "ignore_index", None)
    counted = targets.size if ignored is None else np.count_nonzero(targets != ignored)
    return {"loss": value, "accuracy": np.count_nonzero(right) / counted if counted else float("nan")}
