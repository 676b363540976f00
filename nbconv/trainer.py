"""The training loop: batches, epochs, validation, and what they measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv.augment import Transform
from nbconv.callbacks.base import Callback, TrainingState
from nbconv.callbacks.progress import ProgressBar
from nbconv.history import History
from nbconv.training import snapshot
from nbconv.training.batches import (
    ArraySource,
    Augment,
    Loader,
    LoaderSource,
    Source,
    in_order,
    is_loader,
)
from nbconv.training.checks import checked, hold_out, pair_of
from nbconv.training.evaluation import evaluate
from nbconv.training.interrupt import stop_on_interrupt
from nbconv.training.loop import Loop, Validation
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.losses import Loss
    from nbconv.optim import Optimizer
    from nbconv.sequential import Sequential


class Trainer:
    """Trains and evaluates a model.

    Args:
        model: the network.
        loss: called with (outputs, targets); gives the mean loss, or the sum, and its gradient. It computes
            on the model's backend unless it names one. What it divides by, ``Loss.divisor``, is what weighs
            batches in means of losses and in accumulated gradients; of a function of your own, the number of
            examples.
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
        x: Array | Loader,
        y: Array | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        validation_data: tuple[Array, Array] | Loader | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        augment: Augment | None = None,
        accumulate: int = 1,
        seed: int | None = None,
        callbacks: Sequence[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        check_finite: bool = False,
        record: bool = True,
    ) -> History:
        """Train on ``x`` and ``y``, and return what every completed epoch measured.

        Ctrl-C ends the run after the step at hand and returns the history so far; a second one ends it at
        once.

        Args:
            x: inputs, one along the first axis for each example: (N, C, H, W), float; or a loader that gives
                batches (x, y) by itself, such as ``nb.data.DataLoader``.
            y: targets: class labels, integer (N,), or whatever else the loss takes; None with a loader.
            epochs: how many times to go through the examples.
            batch_size: examples in a batch; the last one of an epoch may be smaller. A loader has its own.
            validation_data: (x, y), or a loader, to evaluate after each epoch.
            validation_split: instead of that, the fraction of x and y to hold out, the same of every class.
            shuffle: go through the examples in another order each epoch. A loader has its own.
            augment: called as ``augment(x, y, seed) -> (x, y)`` on each training batch, with a seed that
                follows from ``seed``, the epoch and the batch; see ``nb.augment``. Labels of pixels move with
                them, and are the loss's ``ignore_index`` where they come from beyond an edge.
            accumulate: batches in an optimiser's step, whose gradient is that of one large batch, where such
                a one has no room in memory; only batch normalisation sees each by itself.
            seed: of that order, of the held-out choice, of augmentation, and of the dropout of a model that
                has no seed of its own, such as one from a file; None takes the model's, else a random one.
            callbacks: for this run, called after the trainer's own.
            resume: a file that a ``Checkpoint`` has written. The run goes on from there and ends in the same
                bits as one that never stopped, given the same arguments and as many threads. More epochs,
                another schedule of the same class and other settings of the optimiser take effect from there
                on: rates are then those that the new schedule gives for the steps made so far.
            verbose: show a progress bar.
            check_finite: look for NaN and infinity in x before training.
            record: on a GPU, record the passes of a step as a CUDA graph and replay that, where it is safe:
                batches of one shape, layers and losses of nbconv's own, no dropout.

        Raises:
            DataError: when there are no examples, their number is not that of the targets, or a label is
                none of the model's classes.
            NonFiniteError: when the loss becomes NaN or infinite, naming the layer and the step; when x holds
                NaN or infinity, where that is looked for.
            CheckpointError: when ``resume`` is not of such a run, naming what is different.
            LayerError: when x does not fit the model.
            ValueError: for an impossible argument.
        """
        optimizer = self.optimizer
        if optimizer is None:
            raise ValueError("Trainer.fit: needs an optimizer; give one to Trainer(model, loss, optimizer)")
        if epochs < 0:
            raise ValueError(f"Trainer.fit: expected epochs of at least 0, got {epochs}")
        if accumulate < 1:
            raise ValueError(f"Trainer.fit: expected accumulate of at least 1, got {accumulate}")
        if validation_data is not None and validation_split:
            raise ValueError("Trainer.fit: give validation_data or validation_split, not both")
        if isinstance(augment, Transform):
            augment = augment.ignoring(getattr(self.loss, "ignore_index", None))
        saved = None if resume is None else snapshot.load(resume)
        given_seed, seed = seed, self._seed(seed, saved)
        source, validation = self._sources(
            x,
            y,
            batch_size,
            shuffle,
            validation_data,
            validation_split,
            check_finite,
            seed,
            augment is not None,
        )

        active = [*self.callbacks, *callbacks, *([ProgressBar()] if verbose else [])]
        active.sort(key=lambda callback: callback.order)
        state = TrainingState(self.model, optimizer, epochs, len(source), source.examples, seed=seed)
        state.callbacks = tuple(active)
        state.settings = {
            "examples": source.examples,
            "batch_size": None if is_loader(x) else batch_size,
            "batches": len(source),
            "shuffle": None if is_loader(x) else shuffle,
            "accumulate": accumulate,
            "augment": augment is not None,
            "seed": seed,
        }
        state.begun, state.validates = snapshot.settings_of(optimizer), validation is not None
        if given_seed is not None and self.model.seed is None:
            self.model.seed_dropout(given_seed)
        if saved is not None:
            snapshot.restore(state, saved)
        with ExitStack() as ending:
            for callback in active:
                callback.on_train_begin(state)
                ending.callback(callback.on_train_end, state)
            if saved is not None:
                snapshot.restore_callbacks(state.callbacks, saved)
            ending.enter_context(stop_on_interrupt(state))
            try:
                Loop(state, self.loss, source, augment, accumulate, validation, record).run()
            except KeyboardInterrupt:
                state.history.interrupted = True
        return state.history

    def evaluate(
        self,
        x: Array | Loader,
        y: Array | None = None,
        batch_size: int = 256,
        *,
        check_finite: bool = False,
    ) -> dict[str, float]:
        """The loss, and for class labels the accuracy, of the model in evaluation mode.

        Both are what all examples as one batch would have, whatever the batch size: a loss that is a mean
        weighs batches by what it divides by, one that is a sum is added up; the accuracy is a part of all
        labels that count, NaN if none does.

        Args:
            x: inputs, or a loader that gives batches (x, y) by itself.
            y: targets; None with a loader.
            batch_size: examples at a time. A loader has its own.
            check_finite: look for NaN and infinity in x first.

        Raises:
            DataError, NonFiniteError: as ``fit``.
            LayerError: when x does not fit the model.
            ValueError: when batch_size is less than 1.
        """
        if is_loader(x):
            return evaluate(self.model, self.loss, LoaderSource(x).batches(0, 0))
        x, y = self._checked("evaluate", x, y, batch_size, check_finite)
        return evaluate(self.model, self.loss, in_order(x, y, batch_size))

    def _sources(
        self,
        x: Array | Loader,
        y: Array | None,
        batch_size: int,
        shuffle: bool,
        validation_data: tuple[Array, Array] | Loader | None,
        validation_split: float,
        check_finite: bool,
        seed: int,
        augmented: bool,
    ) -> tuple[Source, Validation | None]:
        """Where to take the batches from to train and to validate on."""
        validation: Validation | None = None
        if is_loader(validation_data):
            loader = LoaderSource(validation_data)
            validation = lambda: loader.batches(0, 0)  # noqa: E731
        elif validation_data is not None:
            name = "fit: validation_data"
            held = self._checked(name, *pair_of(name, validation_data), batch_size, check_finite)
            validation = lambda: in_order(*held, batch_size)  # noqa: E731
        if is_loader(x):
            if y is not None or validation_split:
                raise ValueError("Trainer.fit: a loader gives the targets; validation_split needs arrays")
            return LoaderSource(x), validation
        inputs, targets = self._checked("fit", x, y, batch_size, check_finite, augmented)
        indices = np.arange(len(inputs))
        if validation_split:
            indices, held_out = hold_out(targets, validation_split, seed)
            held = inputs[held_out], targets[held_out]
            validation = lambda: in_order(*held, batch_size)  # noqa: E731
        return ArraySource(inputs, targets, indices, batch_size, seed if shuffle else None), validation

    def _seed(self, given: int | None, saved: snapshot.Snapshot | None) -> int:
        if given is not None:
            return given
        if saved is not None:
            return saved.seed
        if self.model.seed is not None:
            return self.model.seed
        return int(np.random.default_rng().integers(2**63))

    def _checked(
        self, name: str, x: Any, y: Any, batch_size: int, check_finite: bool, augmented: bool = False
    ) -> tuple[Array, Array]:
        return checked(name, self.model, self.loss, x, y, batch_size, check_finite, augmented)
