"""Callbacks: code that a ``Trainer`` calls while it trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbconv.history import History

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from nbconv.optim import Optimizer
    from nbconv.sequential import Sequential


@dataclass
class TrainingState:
    """Where a training run stands; one object serves a whole run, and every callback sees it change.

    ``logs`` holds the epoch's means so far at the end of a batch, and all of the epoch's numbers (those that
    ``History`` names) at the end of an epoch. A callback that sets ``stop`` ends the run after the current
    batch; that epoch is then not completed, unless the batch was its last.
    """

    model: Sequential
    optimizer: Optimizer
    epochs: int
    batches: int  # in an epoch
    examples: int  # in an epoch
    epoch: int = 0  # counted from 0
    batch: int = 0  # counted from 0
    seen: int = 0  # examples of this epoch that were trained on
    logs: dict[str, float] = field(default_factory=dict)
    history: History = field(default_factory=History)
    stop: bool = False


class Callback:
    """Does nothing; override what you need."""

    def on_train_begin(self, state: TrainingState) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, state: TrainingState) -> None:
        """Before an epoch's first batch."""

    def on_batch_end(self, state: TrainingState) -> None:
        """After an optimiser's step."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """After an epoch and its validation."""

    def on_train_end(self, state: TrainingState) -> None:
        """After the last epoch, also when the run was stopped or failed."""


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


class ProgressBar(Callback):
    """A live bar in a terminal, and a line for each completed epoch there and elsewhere."""

    _INTERVAL = 0.1  # seconds between two redraws

    def __init__(self) -> None:
        self._console: Console | None = None
        self._bar: Progress | None = None  # only in a terminal
        self._drawn = 0.0
        self._epoch_start = 0.0

    def on_train_begin(self, state: TrainingState) -> None:
        """Show the empty bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
            auto_refresh=False,  # redrawn from the training loop: no second thread beside the kernels
            transient=True,
        )
        self._bar.add_task("starting", total=state.epochs * state.batches, numbers="")
        self._bar.start()
        self._bar.refresh()

    def on_epoch_begin(self, state: TrainingState) -> None:
        """Start the epoch's clock."""
        self._epoch_start = time.perf_counter()

    def on_batch_end(self, state: TrainingState) -> None:
        """Redraw the bar, ten times a second at most."""
        now = time.perf_counter()
        if self._bar is None or now - self._drawn < self._INTERVAL:
            return
        self._drawn = now
        self._bar.update(
            self._bar.task_ids[0],
            completed=state.epoch * state.batches + state.batch + 1,
            description=_epoch(state),
            numbers=_numbers({**state.logs, "images_per_second": state.seen / (now - self._epoch_start)}),
        )
        self._bar.refresh()

    def on_epoch_end(self, state: TrainingState) -> None:
        """Print the epoch's line."""
        if self._console is not None:
            self._console.print(f"{_epoch(state)} {_numbers(state.logs)}", markup=False, soft_wrap=True)

    def on_train_end(self, state: TrainingState) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._console = self._bar = None


def _epoch(state: TrainingState) -> str:
    width = len(str(state.epochs))
    return f"epoch {state.epoch + 1:{width}}/{state.epochs}"


def _numbers(logs: dict[str, float]) -> str:
    parts = [
        f"{name} {logs[name]:.4f}" for name in logs if name not in ("lr", "seconds", "images_per_second")
    ]
    return " ".join([*parts, f"{logs['images_per_second']:,.0f} images/s"])
