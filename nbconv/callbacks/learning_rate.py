"""A learning rate that is a function of the epoch; richer ones are in ``nbconv.schedules``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from nbconv.callbacks.base import Callback, TrainingState


def cosine(epoch: int, epochs: int) -> float:
    """Half a cosine wave from 1 in the first epoch towards 0 after the last.

    Source: Loshchilov and Hutter (2017), SGDR, without restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


class LearningRate(Callback):
    """Multiplies every parameter group's learning rate, as it was at the start, by ``factor(epoch, epochs)``.

    The rates of the start are put back when the run ends.
    """

    def __init__(self, factor: Callable[[int, int], float] = cosine) -> None:
        self.factor = factor
        self._start: list[float] = []

    def on_train_begin(self, state: TrainingState) -> None:
        """Note the rates to start from."""
        self._start = [group["lr"] for group in state.optimizer.param_groups]

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

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the rates of the start."""
        self._start = list(state_dict["start"])
