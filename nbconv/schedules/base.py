"""What every schedule is: PyTorch's scheduler, and a callback that steps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.optim import Optimizer


class Schedule(Callback):
    """Sets the learning rate of every group of an optimiser, as a function of the steps made so far.

    As in PyTorch, it sets the rates of step 0 at once, and :meth:`step` those of the next one. Given to
    ``fit`` as a callback it steps by itself.

    Args:
        optimizer: whose rates to set. The rates it has now are those the schedule starts from, unless
            another schedule of this optimiser has noted its own under "initial_lr".
        per: what it steps after as a callback: "epoch", or "step" of the optimiser.

    Attributes:
        last_epoch: steps made so far.
    """

    def __init__(self, optimizer: Optimizer, per: str = "epoch") -> None:
        if per not in ("epoch", "step"):
            raise ValueError(f'{type(self).__name__}: per must be "epoch" or "step", got {per!r}')
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.per = per
        self.last_epoch = 0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._set_rates()

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps of a group that started from ``base``."""
        raise NotImplementedError

    def step(self) -> None:
        """Set the rates of the next step."""
        self.last_epoch += 1
        self._set_rates()

    def get_last_lr(self) -> list[float]:
        """The rates that are set now, one a group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def on_train_begin(self, state: TrainingState) -> None:
        """See that the optimiser is the one that trains.

        Raises:
            ValueError: if it is not.
        """
        if state.optimizer is not self.optimizer:
            raise ValueError(f"{type(self).__name__}: made for another optimizer than the trainer's")

    def on_batch_end(self, state: TrainingState) -> None:
        """Step, if that is due behind every step of the optimiser."""
        if self.per == "step" and state.stepped:
            self.step()

    def on_epoch_end(self, state: TrainingState) -> None:
        """Step, if that is due behind every epoch."""
        if self.per == "epoch":
            self.step()

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands."""
        return {"last_epoch": self.last_epoch, "base_lrs": self.base_lrs}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there; the rates are the optimiser's own state."""
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], list(state_dict["base_lrs"])

    def _set_rates(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.rate(base, self.last_epoch)
