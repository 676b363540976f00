"""Measuring a model on batches."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nbconv import backends
from nbconv.callbacks.base import TrainingState
from nbconv.training.batches import Batch
from nbconv.training.checks import are_labels
from nbconv.training.means import Means
from nbconv.training.nonfinite import explain
from nbconv.typing import Array
from nbconv.upload import ahead

if TYPE_CHECKING:
    from nbconv.losses import Loss
    from nbconv.sequential import Sequential


def evaluate(
    model: Sequential,
    loss: Loss,
    batches: Iterable[Batch],
    state: TrainingState | None = None,
    again: Callable[[], Iterable[Batch]] | None = None,
) -> dict[str, float]:
    """The means of what the batches measure, in evaluation mode.

    Given the state of a run, it stops where the run is to stop, and at a loss that is NaN or infinite; what
    gives the same batches ``again`` is then used to find out why.

    Raises:
        NonFiniteError: see above.
    """
    loss, means = placed(loss, model.backend), Means()
    value_of = getattr(loss, "value", lambda outputs, targets: loss(outputs, targets)[0])
    for inputs, targets, counted in ahead(with_counts(loss, batches), model):
        outputs = model(inputs)
        with backends.deferred(model.backend):
            value = value_of(outputs, targets)
        means.add(len(inputs), measure(outputs, targets, value, counted))
        if means.strange is not None and state is not None:
            break
        if state is not None and state.history.interrupted:
            break
    logs = means.logs()
    if means.strange is not None and state is not None and again is not None:
        number, value = means.strange
        inputs, _ = next(itertools.islice(again(), number, None))
        raise explain(model, inputs, f"the validation loss is {value} after epoch {state.epoch + 1}")
    return logs


def placed(loss: Loss, backend: str) -> Loss:
    """The loss, on a backend unless it names one itself."""
    if getattr(loss, "backend", "its own") is not None:
        return loss
    loss = copy.copy(loss)
    loss.backend = backend
    return loss


def with_counts(loss: Loss, batches: Iterable[Batch]) -> Iterator[tuple[Array, Array, Any]]:
    """Batches, each with the number of its labels that count: told before they lie on a device."""
    ignored = getattr(loss, "ignore_index", None)
    for inputs, targets in batches:
        some = ignored is not None and are_labels(targets)
        yield inputs, targets, (targets != ignored).sum() if some else targets.size


def measure(outputs: Any, targets: Array, value: Any, counted: Any) -> dict[str, Any]:
    """One batch's loss and accuracy; of outputs that are a tuple, the first one's.

    They are numbers, or arrays of one on a device, which have not been waited for.
    """
    if isinstance(outputs, tuple):
        outputs = outputs[0]
    if not are_labels(targets) or outputs.ndim != targets.ndim + 1:
        return {"loss": value}
    right = (outputs.argmax(axis=1) == targets).sum()
    if backends.is_on_device(right):
        return {"loss": value, "accuracy": right / counted}
    return {"loss": value, "accuracy": int(right) / int(counted) if counted else float("nan")}
