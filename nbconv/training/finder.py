"""Finding a learning rate by trying all of them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.errors import NonFiniteError
from nbconv.training.batches import Augment, Loader, is_loader
from nbconv.training.nonfinite import dropouts_of
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.trainer import Trainer


@dataclass
class RateTest:
    """What :func:`find_learning_rate` saw.

    Attributes:
        rates: the learning rate of each step, rising.
        losses: of the steps' batches, smoothed.
    """

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the loss was smallest.

        There it is about to rise again; an order of magnitude below, it falls. The steepest fall is no guide:
        it may be that from a peak, after the loss has run away.

        Raises:
            ValueError: if there were fewer than three steps, or the loss never fell.
        """
        if len(self.rates) < 3:
            raise ValueError(f"no learning rate to suggest after {len(self.rates)} steps")
        smallest = min(range(len(self.losses)), key=self.losses.__getitem__)
        if not smallest:
            raise ValueError("no learning rate to suggest: the loss has never fallen")
        return self.rates[smallest] / 10


def find_learning_rate(
    trainer: Trainer,
    x: Array | Loader,
    y: Array | None = None,
    batch_size: int = 32,
    *,
    augment: Augment | None = None,
    start: float = 1e-6,
    end: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    diverged: float = 4.0,
    seed: int | None = None,
) -> RateTest:
    """Train for some steps, each at a larger learning rate, until the loss runs away.

    Model and optimiser are afterwards what they were before.

    Args:
        trainer: of the model, with an optimiser; its callbacks are not called.
        x: inputs (N, ...), or a loader.
        y: targets; None with a loader.
        batch_size: examples in a step.
        augment: made to each batch, as by ``Trainer.fit``.
        start: the first rate, of all parameter groups.
        end: the last one; those between are a geometric row.
        steps: to try.
        smoothing: how much of the running mean of the losses is kept at each step.
        diverged: stop when the smoothed loss is so many times the smallest.
        seed: of the order of the examples.

    Raises:
        ValueError: for rates that do not rise from above 0, or fewer than two steps.
        KeyboardInterrupt: after Ctrl-C.

    Source: Smith, "Cyclical learning rates for training neural networks", 2017.
    """
    if not 0 < start < end or steps < 2:
        raise ValueError(f"find_learning_rate: expected 0 < start < end, got {start}, {end} in {steps} steps")
    if trainer.optimizer is None:
        raise ValueError("find_learning_rate: the trainer needs an optimizer")
    found, model, optimizer = RateTest(), trainer.model, trainer.optimizer
    weights, state = model.state_dict(), optimizer.state_dict()
    settings = [dict(group) for group in optimizer.param_groups]
    draws = [dropout.draws for dropout in dropouts_of(model)]
    quiet = copy.copy(trainer)
    quiet.callbacks = ()
    batches = len(x) if is_loader(x) else -(-len(x) // batch_size)
    try:
        history = quiet.fit(
            x,
            y,
            epochs=-(-steps // batches),
            batch_size=batch_size,
            augment=augment,
            seed=seed,
            callbacks=[_Ramp(found, start, (end / start) ** (1 / (steps - 1)), steps, smoothing, diverged)],
            verbose=False,
        )
        if history.interrupted:
            raise KeyboardInterrupt
    except NonFiniteError:
        pass  # the rates so far tell what there is to tell
    finally:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for group, before in zip(optimizer.param_groups, settings, strict=True):
            group.update(before)
        for dropout, stood in zip(dropouts_of(model), draws, strict=True):
            dropout.draws = stood
        optimizer.zero_grad()
    return found


class _Ramp(Callback):
    """Raises the rate at each step, and notes the losses."""

    def __init__(
        self, found: RateTest, start: float, ratio: float, steps: int, smoothing: float, diverged: float
    ) -> None:
        self._found, self._start, self._ratio, self._steps = found, start, ratio, steps
        self._smoothing, self._diverged = smoothing, diverged
        self._mean, self._kept = 0.0, 1.0

    def on_step_begin(self, state: TrainingState) -> None:
        for group in state.optimizer.param_groups:
            group["lr"] = self._start * self._ratio**state.step

    def on_batch_end(self, state: TrainingState) -> None:
        state.stop = state.step >= self._steps
        loss = state.loss
        if math.isnan(
            loss
        ):  # of a batch in which nothing counts; where it is another, the run ends by itself
            return
        self._mean = self._smoothing * self._mean + (1 - self._smoothing) * loss
        self._kept *= self._smoothing
        smooth = self._mean / (1 - self._kept)
        self._found.rates.append(state.optimizer.param_groups[0]["lr"])
        self._found.losses.append(smooth)
        smallest = min(self._found.losses)
        state.stop = state.stop or smooth > self._diverged * smallest
