"""The training loop: batches, epochs, validation, and what they measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv.augment import batch_seed
from nbconv.callbacks import Callback, ProgressBar, TrainingState
from nbconv.data.split import stratified_split
from nbconv.errors import DataError, NonFiniteError
from nbconv.history import History
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.losses import Loss
    from nbconv.optim import Optimizer
    from nbconv.sequential import Sequential

Augment = Callable[[Array, Array, int], tuple[Array, Array]]
"""``augment(x, y, seed) -> (x, y)`` on a batch."""


class Trainer:
    """Trains and evaluates a model.

    Args:
        model: the network.
        loss: called with (outputs, targets); gives the mean loss and its gradient. It computes on the model's
            backend unless it names one.
        optimizer: of the model's parameters; only ``fit`` needs one.
        callbacks: called by every ``fit``.
    """

    def __init__(
        self,
        model: Sequential,
        loss: Loss,
        optimizer: Optimizer | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.callbacks = tuple(callbacks)

    def fit(
        self,
        x: Array,
        y: Array,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        validation_data: tuple[Array, Array] | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int | None = None,
        callbacks: Sequence[Callback] = (),
        verbose: bool = True,
        check_finite: bool = False,
    ) -> History:
        """Train on ``x`` and ``y``, and return what every completed epoch measured.

        Ctrl-C ends the run after the work at hand and returns the history so far.

        Args:
            x: inputs, one along the first axis for each example: (N, C, H, W), float.
            y: targets: class labels, integer (N,), or whatever else the loss takes.
            epochs: how many times to go through the examples.
            batch_size: examples in an optimiser's step; the last batch of an epoch may be smaller.
            validation_data: (x, y) to evaluate after each epoch.
            validation_split: instead of that, the fraction of x and y to hold out, the same of every class.
            shuffle: go through the examples in another order each epoch.
            augment: called as ``augment(x, y, seed) -> (x, y)`` on each training batch, with a seed that
                follows from ``seed``, the epoch and the batch; see ``nb.augment``.
            seed: of that order, of the held-out choice and of augmentation; None takes the model's, else a
                random one.
            callbacks: for this run, called after the trainer's own.
            verbose: show a progress bar.
            check_finite: look for NaN and infinity in x before training.

        Raises:
            DataError: when there are no examples, their number is not that of the targets, or a label is
                none of the model's classes.
            NonFiniteError: when x holds NaN or infinity, where that is looked for.
            LayerError: when x does not fit the model.
            ValueError: for an impossible argument.
        """
        optimizer = self.optimizer
        if optimizer is None:
            raise ValueError("Trainer.fit: needs an optimizer; give one to Trainer(model, loss, optimizer)")
        if epochs < 0:
            raise ValueError(f"Trainer.fit: expected epochs of at least 0, got {epochs}")
        if validation_data is not None and validation_split:
            raise ValueError("Trainer.fit: give validation_data or validation_split, not both")
        x, y = self._checked("fit", x, y, batch_size, check_finite)
        if seed is None:
            seed = self.model.seed
        if seed is None:
            seed = int(np.random.default_rng().integers(2**63))

        indices = np.arange(len(x))
        if validation_split:
            indices, held_out = _hold_out(y, validation_split, seed)
            validation_data = x[held_out], y[held_out]
        elif validation_data is not None:
            validation_data = self._checked(
                "fit: validation_data", *validation_data, batch_size, check_finite
            )

        state = TrainingState(self.model, optimizer, epochs, -(-len(indices) // batch_size), len(indices))
        with ExitStack() as ending:
            active = [*self.callbacks, *callbacks, *([ProgressBar()] if verbose else [])]
            for callback in active:
                callback.on_train_begin(state)
                ending.callback(callback.on_train_end, state)
            try:
                for state.epoch in range(epochs):
                    order = (
                        np.random.default_rng([seed, state.epoch]).permutation(indices)
                        if shuffle
                        else indices
                    )
                    batches: Iterable[tuple[Array, Array]] = _Batches(x, y, order, batch_size)
                    if augment is not None:
                        batches = _augmented(batches, augment, seed, state.epoch)
                    self._train_epoch(state, active, batches)
                    if state.stop and state.seen < state.examples:
                        break
                    if validation_data is not None:
                        measured = self._evaluate(*validation_data, batch_size)
                        state.logs.update({f"val_{name}": value for name, value in measured.items()})
                    state.history.append(state.logs)
                    for callback in active:
                        callback.on_epoch_end(state)
                    if state.stop:
                        break
            except KeyboardInterrupt:
                state.history.interrupted = True
        return state.history

    def evaluate(
        self, x: Array, y: Array, batch_size: int = 256, *, check_finite: bool = False
    ) -> dict[str, float]:
        """The loss, and for class labels the accuracy, of the model in evaluation mode.

        The loss is the mean over batches, weighted by their numbers of examples.

        Raises:
            DataError, NonFiniteError: as ``fit``.
            LayerError: when x does not fit the model.
            ValueError: when batch_size is less than 1.
        """
        x, y = self._checked("evaluate", x, y, batch_size, check_finite)
        return self._evaluate(x, y, batch_size)

    def _evaluate(self, x: Array, y: Array, batch_size: int) -> dict[str, float]:
        loss_of, means = self._placed_loss(), _Means()
        value_of = getattr(loss_of, "value", lambda outputs, targets: loss_of(outputs, targets)[0])
        for inputs, targets in _Batches(x, y, None, batch_size):
            outputs = self.model(inputs)
            means.add(len(inputs), self._measure(outputs, targets, value_of(outputs, targets)))
        return means.logs()

    def _train_epoch(
        self, state: TrainingState, callbacks: Sequence[Callback], batches: Iterable[tuple[Array, Array]]
    ) -> None:
        optimizer, loss_of = state.optimizer, self._placed_loss()
        state.seen, state.logs = 0, {}
        for callback in callbacks:
            callback.on_epoch_begin(state)
        means = _Means()
        start = time.perf_counter()
        for state.batch, (inputs, targets) in enumerate(batches):
            optimizer.zero_grad()
            outputs, backprop = self.model.forward(inputs, training=True, input_grad=False)
            loss, gradient = loss_of(outputs, targets)
            backprop(gradient)
            optimizer.step()
            state.seen += len(inputs)
            means.add(len(inputs), self._measure(outputs, targets, loss))
            state.logs = means.logs()
            for callback in callbacks:
                callback.on_batch_end(state)
            if state.stop:
                break
        seconds = time.perf_counter() - start
        state.logs["lr"] = optimizer.param_groups[0]["lr"]
        state.logs["seconds"] = seconds
        state.logs["images_per_second"] = state.seen / seconds

    def _placed_loss(self) -> Loss:
        """The loss, on the backend that the model is on now."""
        if getattr(self.loss, "backend", "its own") is not None:
            return self.loss
        loss = copy.copy(self.loss)
        loss.backend = self.model.backend
        return loss

    def _measure(self, outputs: Any, targets: Array, loss: float) -> dict[str, float]:
        """One batch's loss and accuracy; of outputs that are a tuple, the first one's."""
        if isinstance(outputs, tuple):
            outputs = outputs[0]
        if not _are_labels(targets) or outputs.ndim != targets.ndim + 1:
            return {"loss": loss}
        right = outputs.argmax(axis=1) == targets
        ignored = getattr(self.loss, "ignore_index", None)
        counted = targets.size if ignored is None else np.count_nonzero(targets != ignored)
        return {"loss": loss, "accuracy": np.count_nonzero(right) / counted if counted else float("nan")}

    def _checked(
        self, name: str, x: Array, y: Array, batch_size: int, check_finite: bool
    ) -> tuple[Array, Array]:
        """``x`` and ``y`` as arrays that a pass over the model can use."""
        x, y = np.asarray(x), np.asarray(y)
        if batch_size < 1:
            raise ValueError(f"Trainer.{name}: expected a batch_size of at least 1, got {batch_size}")
        if x.ndim < 2 or y.ndim < 1:
            raise DataError(
                f"Trainer.{name}: expected inputs of shape (N, ...) and targets of shape (N,) or (N, ...), "
                f"got {x.shape} and {y.shape}"
            )
        if len(x) != len(y):
            raise DataError(f"Trainer.{name}: {len(x)} inputs but {len(y)} targets")
        if not len(x):
            raise DataError(f"Trainer.{name}: the data set is empty: inputs of shape {x.shape}")
        if check_finite:
            _check_finite(name, x)
        output_shape = self.model.output_shape((1, *x.shape[1:]))
        if _are_labels(y) and len(output_shape) == y.ndim + 1:
            self._check_labels(name, y, output_shape[1])
        return x, y

    def _check_labels(self, name: str, labels: Array, classes: int) -> None:
        wrong = (labels < 0) | (labels >= classes)
        ignored = getattr(self.loss, "ignore_index", None)
        if ignored is not None:
            wrong &= labels != ignored
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            where = place[0] if len(place) == 1 else place
            raise DataError(
                f"Trainer.{name}: label {labels[place]} at position {where} is none of the model's "
                f"{classes} classes, 0 to {classes - 1}"
            )


class _Batches:
    """The examples, batch by batch, in a given order; None is the order they are in."""

    def __init__(self, x: Array, y: Array, order: Array | None, batch_size: int) -> None:
        self._take = _taker(x, batch_size)
        self._x, self._y, self._order, self._size = x, y, order, batch_size

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        for start in range(0, len(self._x if self._order is None else self._order), self._size):
            here = slice(start, start + self._size)
            if self._order is None:
                yield self._x[here], self._y[here]
            else:
                index = self._order[here]
                yield self._take(index), self._y[index]


def _augmented(
    batches: Iterable[tuple[Array, Array]], augment: Augment, seed: int, epoch: int
) -> Iterator[tuple[Array, Array]]:
    """The batches of one epoch as ``augment`` makes them."""
    for number, (x, y) in enumerate(batches):
        yield augment(x, y, batch_seed(seed, epoch, number))


def _taker(x: Array, batch_size: int) -> Callable[[Array], Array]:
    """A function that gathers the examples at some indices.

    Channels-last images are gathered into channels-last memory, which serves all batches: a step is over when
    the next batch is taken. Other layouts are gathered as they are; the model converts them where they enter.
    """
    rows = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    if not rows.flags.c_contiguous:
        return lambda index: x[index]
    memory = np.empty((min(batch_size, len(x)), *rows.shape[1:]), x.dtype)

    def take(index: Array) -> Array:
        # mode="clip" because NumPy writes straight into ``out`` only where no index can be an error.
        batch = np.take(rows, index, axis=0, out=memory[: len(index)], mode="clip")
        return batch.transpose(0, 3, 1, 2) if x.ndim == 4 else batch

    return take


class _Means:
    """Running means of what batches measured, weighted by their numbers of examples."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[str, float] = {}

    def add(self, examples: int, measured: dict[str, float]) -> None:
        self._count += examples
        for name, value in measured.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * examples

    def logs(self) -> dict[str, float]:
        return {name: total / self._count for name, total in self._sums.items()}


def _are_labels(targets: Array) -> bool:
    return np.issubdtype(targets.dtype, np.integer)


def _hold_out(y: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    """Indices to train on and to hold out: stratified for class labels, any for other targets."""
    labels = y if _are_labels(y) and y.ndim == 1 else np.zeros(len(y), np.int64)
    return stratified_split(labels, fraction, seed)


def _check_finite(name: str, x: Array) -> None:
    for i, example in enumerate(x):  # one at a time: no mask as large as the data
        if not np.isfinite(example).all():
            place = tuple(int(j) for j in np.argwhere(~np.isfinite(example))[0])
            raise NonFiniteError(f"Trainer.{name}: the inputs hold {example[place]} at {(i, *place)}")
