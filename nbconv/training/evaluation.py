"""Measuring a model on batches."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nbconv import backends
from nbconv.callbacks.base import TrainingState
from nbconv.losses import Loss
from nbconv.training.batches import Batch
from nbconv.training.checks import are_labels
from nbconv.training.means import Means, Measured
from nbconv.training.nonfinite import explain
from nbconv.typing import Array
from nbconv.upload import ahead

if TYPE_CHECKING:
    from nbconv.sequential import Sequential


def evaluate(
    model: Sequential,
    loss: Loss,
    batches: Iterable[Batch],
    state: TrainingState | None = None,
    again: Callable[[], Iterable[Batch]] | None = None,
) -> dict[str, float]:
    """What the batches measure as if they were one, in evaluation mode.

    Given the state of a run, it stops where the run is to stop, and at a loss that is NaN or infinite; what
    gives the same batches ``again`` is then used to find out why.

    Raises:
        NonFiniteError: see above.
    """
    loss, means = placed(loss, model.backend), Means()
    data_loss = loss.data_loss
    with backends.deferred(model.backend):
        penalty = loss.penalty()
    for inputs, targets, divisor, counted in ahead(with_counts(data_loss, batches), model):
        outputs = model(inputs)
        with backends.deferred(model.backend):
            value = data_loss.value(outputs, targets)
        right = count_right(data_loss, outputs, targets)
        means.add(Measured(value, divisor, penalty, right, counted))
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


def placed(loss: Any, backend: str) -> Loss:
    """The loss, on a backend unless it names one itself; a function of one's own as a loss.

    Raises:
        ValueError: for a loss of reduction "none", which is no number that could be reported.
    """
    if getattr(loss, "reduction", None) == "none":
        raise ValueError('Trainer: expected a loss of reduction "mean" or "sum", got "none"')
    if isinstance(loss, Loss):
        return loss.placed(backend)
    if getattr(loss, "backend", "its own") is None:
        loss = copy.copy(loss)
        loss.backend = backend
    return _Called(loss)


class _Called(Loss):
    """Whatever can be called as a loss is: by its own account a sum, or else a mean over examples."""

    def __init__(self, loss: Any) -> None:
        super().__init__("sum" if getattr(loss, "reduction", "mean") == "sum" else "mean")
        self.loss = loss
        for name in ("value", "divisor", "penalty", "add_penalty_gradient"):
            if hasattr(loss, name):
                setattr(self, name, getattr(loss, name))

    @property
    def ignore_index(self) -> int | None:
        """The label that does not count, where the loss has one."""
        return getattr(self.loss, "ignore_index", None)

    def __call__(self, y: Any, targets: Any) -> tuple[Any, Any]:
        value, dy = self.loss(y, targets)
        return value, dy


def with_counts(loss: Loss, batches: Iterable[Batch]) -> Iterator[tuple[Array, Array, Any, Any]]:
    """Batches, each with the loss's divisor and the number of labels that count.

    These are told before the batch lies on a device.
    """
    for inputs, targets in batches:
        counts = _counts(loss, targets)
        yield inputs, targets, loss.divisor(targets), targets.size if counts is None else counts.sum()


def count_right(loss: Loss, outputs: Any, targets: Array) -> Any:
    """How many labels that count are those predicted; of outputs that are a tuple, by the first.

    None without labels.
    """
    if isinstance(outputs, tuple):
        outputs = outputs[0]
    if not are_labels(targets) or outputs.ndim != targets.ndim + 1:
        return None
    right, counts = outputs.argmax(axis=1) == targets, _counts(loss, targets)
    return (right if counts is None else right & counts).sum()


def _counts(loss: Loss, targets: Array) -> Array | None:
    """Which labels count; None if all do."""
    ignored = getattr(loss, "ignore_index", None)
    if ignored is None or not are_labels(targets):
        return None
    counts: Array = targets != ignored
    return counts
