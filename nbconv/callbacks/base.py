"""What a callback is, and what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbconv.history import History
from nbconv.training.means import Means

if TYPE_CHECKING:
    from nbconv.optim import Optimizer
    from nbconv.sequential import Sequential


@dataclass
class TrainingState:
    """Where a training run stands; one object serves a whole run, and every callback sees it change.

    ``logs`` holds the epoch's loss and accuracy so far at the end of a batch, and all of the epoch's numbers
    (those that ``History`` names) at the end of an epoch. A callback that sets ``stop`` ends the run after
    the current step; that epoch is then not completed, unless the batch was its last.
    """

    model: Sequential
    optimizer: Optimizer
    epochs: int
    batches: int  # in an epoch
    examples: int  # in an epoch
    epoch: int = 0  # counted from 0
    batch: int = 0  # counted from 0
    seen: int = 0  # examples of this epoch that were trained on
    history: History = field(default_factory=History)
    stop: bool = False
    step: int = 0  # optimiser's steps so far, in all epochs
    stepped: bool = False  # the current batch ended in one: always, unless gradients are accumulated
    done: int = 0  # batches of this epoch that are over
    seconds: float = 0.0  # of training in this epoch, up to the last step
    at_rest: bool = True  # not within a step or a callback: model, optimiser and callbacks fit together
    epoch_over: bool = False  # validated, and entered in the history
    seed: int = 0
    means: Means = field(default_factory=Means)
    callbacks: tuple[Callback, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)  # which a resumed run must share
    begun: list[dict[str, Any]] = field(default_factory=list)  # the optimiser's settings as they were given
    validates: bool = False  # after each epoch
    _loss: Any = field(default=0.0, init=False, repr=False)
    _logs: dict[str, float] | None = field(default_factory=dict, init=False, repr=False)

    @property
    def loss(self) -> float:
        """Of the current batch alone, NaN where nothing in it counts; on a GPU, reading it waits for that."""
        return float(self._loss)

    @loss.setter
    def loss(self, value: Any) -> None:
        self._loss = value

    @property
    def logs(self) -> dict[str, float]:
        """The numbers described above; the same holds for them."""
        if self._logs is None:
            self._logs = self.means.logs()
        return self._logs

    @logs.setter
    def logs(self, values: dict[str, float] | None) -> None:
        self._logs = values


class Callback:
    """Does nothing; override what you need.

    A callback whose behaviour depends on what it has seen gives that in ``state_dict`` and takes it in
    ``load_state_dict``, so that a resumed run goes on as if it had never stopped. Anything is allowed there
    that is made of None, bool, int, float, str, arrays, lists and dicts.

    Attributes:
        order: callbacks of a higher one are called later, wherever they were given.
    """

    order: int = 0

    def on_train_begin(self, state: TrainingState) -> None:
        """Before the first epoch; in a resumed run before the first batch that is left."""

    def on_epoch_begin(self, state: TrainingState) -> None:
        """Before an epoch's first batch."""

    def on_step_begin(self, state: TrainingState) -> None:
        """Before an optimiser's step, when all gradients are there."""

    def on_batch_end(self, state: TrainingState) -> None:
        """After a batch, and the optimiser's step if it ended in one."""

    def on_epoch_trained(self, state: TrainingState) -> None:
        """After an epoch's last batch and before its validation; again if the run was resumed there."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """After an epoch and its validation."""

    def on_train_end(self, state: TrainingState) -> None:
        """After the last epoch, also when the run was stopped or failed; last callbacks first."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to know; empty if nothing."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave; called behind ``on_train_begin``."""
