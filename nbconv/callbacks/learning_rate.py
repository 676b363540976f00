"""A learning rate that is a function of the epoch; richer ones are in ``nbconv.schedules``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nbconv.callbacks.base import Callback, TrainingState


def cosine(epoch: int, epochs: int) -> float:
    """Half a cosine wave from 1 in the first epoch towards 0 after the last.

    Source: Loshchilov and Hutter (2017), SGDR, without restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


class LearningRate(Callback):
    """Multiplies every parameter group's learning rate, as it was at the start, by ``factor(epoch, epochs)``.

    The rates of the start are put back when the run ends. A resumed run takes them from its own optimiser,
    and has the number of epochs that it is given.
    """

    def __init__(self, factor: Callable[[int, int], float] = cosine) -> None:
        self.factor = factor
        self._start: list[float] = []

    def on_train_begin(self, state: TrainingState) -> None:
        """Note the rates to start from; in a run resumed within an epoch, set that one's."""
        self._start = [settings["lr"] for settings in state.begun]
        if state.done:
            self.on_epoch_begin(state)

    def on_epoch_begin(self, state: TrainingState) -> None:
        """Set this epoch's rates."""
        factor = self.factor(state.epoch, state.epochs)
        for group, start in zip(state.optimizer.param_groups, self._start, strict=True):
            group["lr"] = start * factor

    def on_train_end(self, state: TrainingState) -> None:
        """Put the rates back."""
        for group, start in zip(state.optimizer.param_groups, self._start, strict=True):
            group["lr"] = start

    def state_dict(self) -> dict[str, Any]:
        """The rates of the start."""
        return {"start": self._start}
