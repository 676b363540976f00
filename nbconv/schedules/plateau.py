"""Dividing the learning rate when training stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nbconv.callbacks.base import TrainingState
from nbconv.callbacks.monitor import Monitor
from nbconv.optim import Optimizer
from nbconv.schedules.base import Schedule


class ReduceLROnPlateau(Schedule):
    """Multiplies the rate by ``factor`` when a measurement has not improved for over ``patience`` epochs.

    AlexNet's rule, divide by 10 when the validation accuracy stops improving:
    ``ReduceLROnPlateau(optimizer, "max", 0.1)``.

    Args:
        optimizer: whose rates to lower.
        mode: whether "min" or "max" of the measurement is better.
        factor: less than 1.
        patience: epochs to wait.
        threshold: how much better counts as an improvement.
        threshold_mode: whether that is a share of the best so far ("rel") or a difference ("abs").
        cooldown: epochs after a reduction in which nothing is counted.
        min_lr: the rate is never set below.
        eps: a reduction that is smaller is not made.
        monitor: the measurement, a name in ``History``; by default "val_loss" or, for "max", "val_accuracy".

    Raises:
        ValueError: for arguments out of range.

    Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012; the
    arguments and defaults are PyTorch's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
        *,
        monitor: str | None = None,
    ) -> None:
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be in [0, 1), got {factor}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f'ReduceLROnPlateau: threshold_mode must be "rel" or "abs", got {threshold_mode!r}'
            )
        self.monitor = Monitor(monitor or ("val_accuracy" if mode == "max" else "val_loss"), mode)
        self.factor, self.patience, self.cooldown = factor, patience, cooldown
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.min_lr, self.eps = min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        self._decides = False  # on the rates to begin with
        super().__init__(optimizer)

    def step(self, metrics: float | None = None) -> None:
        """Take note of a measurement, and lower the rates if it is time.

        Raises:
            ValueError: if none is given.
        """
        if metrics is None:
            raise ValueError("ReduceLROnPlateau.step: needs the measurement")
        self.last_epoch += 1
        if self._is_better(float(metrics)):
            self.best, self.num_bad_epochs = float(metrics), 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                lower = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lower > self.eps:
                    group["lr"] = lower
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def on_train_begin(self, state: TrainingState) -> None:
        """See that there will be a measurement, and that the optimiser is the one that trains.

        Raises:
            ValueError: if not.
        """
        super().on_train_begin(state)
        self.monitor.check(state, type(self).__name__)
        self._decides = not any(isinstance(c, Schedule) and c is not self for c in state.callbacks)

    def on_epoch_end(self, state: TrainingState) -> None:
        """Take note of the epoch's measurement."""
        self.step(self.monitor.value(state.logs, type(self).__name__))

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands."""
        return {
            **super().state_dict(),
            "monitor": self.monitor.described(),
            "best": self.best,
            "num_bad_epochs": self.num_bad_epochs,
            "cooldown_counter": self.cooldown_counter,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there; begin with the optimiser's rates if they are others than they were.

        Raises:
            ValueError: if it watched another measurement.
        """
        self.monitor.check_same(state_dict)
        super().load_state_dict(state_dict)
        self.best = state_dict["best"]
        self.num_bad_epochs = state_dict["num_bad_epochs"]
        self.cooldown_counter = state_dict["cooldown_counter"]

    def _is_better(self, value: float) -> bool:
        relative = self.threshold_mode == "rel"
        if self.monitor.mode == "min":
            return value < (self.best * (1 - self.threshold) if relative else self.best - self.threshold)
        return value > (self.best * (1 + self.threshold) if relative else self.best + self.threshold)

    def _rates(self) -> list[Any]:
        """Those to begin with."""
        return self.base_lrs

    def _set_rates(self) -> None:
        """The rates stay as they are until there is a reason; another schedule sets its own."""
        if self._decides:
            super()._set_rates()
