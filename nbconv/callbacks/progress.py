"""A live progress bar."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.callbacks.enduring import Enduring
from nbconv.terminal import EnduringStream, console, enduring, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class ProgressBar(Callback):
    """A live bar in a terminal, and a line for each completed epoch there and elsewhere.

    Nothing that is wrong with standard output ends the run: what cannot be written is left out, which is told
    once, by ``logging``.
    """

    _INTERVAL = 0.1  # seconds between two redraws

    def __init__(self) -> None:
        self._stream: EnduringStream | None = None
        self._console: Console | None = None
        self._bar: Progress | None = None  # only in a terminal
        self._drawn = 0.0
        self._start = 0.0
        self._seen_before = 0  # the clock's start

    def on_train_begin(self, state: TrainingState) -> None:
        """Show the empty bar."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._start, self._seen_before = time.perf_counter(), state.seen
        # An enduring stream, such as the command line's, is of somebody who tells of its failure.
        self._stream = None if isinstance(sys.stdout, EnduringStream) else enduring(sys.stdout)
        self._console = console(sys.stdout if self._stream is None else self._stream)
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[numbers]}", markup=False),
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
        self._start, self._seen_before = time.perf_counter(), 0

    def on_batch_end(self, state: TrainingState) -> None:
        """Redraw the bar, ten times a second at most."""
        now = time.perf_counter()
        if self._bar is None or now - self._drawn < self._INTERVAL:
            return
        self._drawn = now
        speed = (state.seen - self._seen_before) / (now - self._start)
        self._bar.update(
            self._bar.task_ids[0],
            completed=state.epoch * state.batches + state.batch + 1,
            description=_epoch(state),
            numbers=_numbers({**state.logs, "images_per_second": speed}),
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
        if self._stream is not None and self._stream.failure is not None:
            Enduring("the standard output").tell(self._stream.failure)
        self._stream = self._console = self._bar = None


def _epoch(state: TrainingState) -> str:
    width = len(str(state.epochs))
    return f"epoch {state.epoch + 1:{width}}/{state.epochs}"


def _numbers(logs: dict[str, float]) -> str:
    parts = [
        f"{name} {logs[name]:.4f}" for name in logs if name not in ("lr", "seconds", "images_per_second")
    ]
    return visible(" ".join([*parts, f"{logs['images_per_second']:,.0f} images/s"]))
