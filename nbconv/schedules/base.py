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

    A resumed run has the rates that this schedule, with the arguments it has now, gives for the steps made so
    far. So one of more epochs, or from another rate, takes effect from there on, as if it had been there from
    the beginning; the same schedule as before goes on in the same bits.

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
        """Where the schedule stands, and the rates it has set there."""
        return {"last_epoch": self.last_epoch, "per": self.per, "rates": self._rates()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there, with this schedule's rates.

        Raises:
            ValueError: if the other one counted something else.
        """
        if state_dict.get("per", self.per) != self.per:
            raise ValueError(f"it stepped per {state_dict['per']}, this one per {self.per}")
        self.last_epoch = state_dict["last_epoch"]
        if state_dict.get("rates", state_dict.get("base_lrs")) != self._rates():
            self._set_rates()
        # Else the rates are the optimiser's own state: another callback may have changed them since.

    def _rates(self) -> list[Any]:
        """What is to be set now, a group each."""
        pairs = zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        return [self.rate(base, self.last_epoch) for _, base in pairs]

    def _set_rates(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates(), strict=True):
            group["lr"] = rate
