"""Measuring a model on batches."""

from __future__ import annotations

import copy
import itertools
import math
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
        means.add(len(inputs), measured(value, count_right(outputs, targets), counted))
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


def count_right(outputs: Any, targets: Array) -> Any:
    """How many labels are those predicted; of outputs that are a tuple, by the first. None without labels."""
    if isinstance(outputs, tuple):
        outputs = outputs[0]
    if not are_labels(targets) or outputs.ndim != targets.ndim + 1:
        return None
    return (outputs.argmax(axis=1) == targets).sum()


def measured(loss: Any, right: Any, counted: Any) -> dict[str, Any]:
    """One batch's loss and accuracy: numbers, or what becomes numbers when they are read from a device."""
    if right is None:
        return {"loss": loss}
    share = Share(right, counted)
    waits = backends.is_array(loss) or backends.is_on_device(right)
    return {"loss": loss, "accuracy": share if waits else float(share)}


class Share:
    """A part of a whole that are counted on a device."""

    def __init__(self, part: Any, whole: Any) -> None:
        self._part, self._whole = part, whole

    def __float__(self) -> float:
        part, whole = int(self._part), int(self._whole)
        return part / whole if whole else math.nan
