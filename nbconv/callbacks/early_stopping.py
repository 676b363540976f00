"""Stopping when there is nothing more to gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.callbacks.monitor import Monitor
from nbconv.typing import Array


class EarlyStopping(Callback):
    """Ends the run when a measurement has not improved for ``patience`` epochs.

    Args:
        monitor: the measurement, a name in ``History``.
        min_delta: how much better counts as an improvement.
        patience: epochs without one before the run ends.
        mode: whether "min" or "max" is better; None tells it from the name.
        restore_best_weights: when the run ends, give the model the weights of its best epoch; not after
            Ctrl-C.

    Attributes:
        best: the best measurement.
        best_epoch: its epoch, counted from 0; -1 before the first.

    Raises:
        ValueError: for a patience of less than 1, or a name that does not tell its mode.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 1,
        mode: str | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        self.monitor = Monitor(monitor, mode)
        self.min_delta, self.patience = abs(min_delta), patience
        self.restore_best_weights = restore_best_weights
        self._forget()

    def _forget(self) -> None:
        self.best, self.best_epoch, self._wait = self.monitor.worst, -1, 0
        self._weights: dict[str, Array] = {}

    def on_train_begin(self, state: TrainingState) -> None:
        """Forget earlier runs.

        Raises:
            ValueError: if the measurement is one on validation data, and there are none.
        """
        self.monitor.check(state, "EarlyStopping")
        self._forget()

    def on_epoch_end(self, state: TrainingState) -> None:
        """Compare the epoch with the best so far."""
        value = self.monitor.value(state.logs, "EarlyStopping")
        if self.monitor.is_better(value, self.best, self.min_delta):
            self.best, self.best_epoch, self._wait = value, state.epoch, 0
            if self.restore_best_weights:
                self._weights = state.model.state_dict()
            return
        self._wait += 1
        if self._wait >= self.patience:
            state.stop = True

    def on_train_end(self, state: TrainingState) -> None:
        """Put the best weights back."""
        if self._weights and state.at_rest and not state.history.interrupted:
            state.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {
            "monitor": self.monitor.described(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "wait": self._wait,
            "weights": self._weights,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: if it watched another measurement.
        """
        self.monitor.check_same(state_dict)
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self._wait, self._weights = state_dict["wait"], dict(state_dict["weights"])
