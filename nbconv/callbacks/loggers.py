"""Logs that other programs read: a line for each epoch."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import TextIO

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.callbacks.enduring import Enduring


class _LineLogger(Callback):
    """Writes one line for each epoch, at once. A resumed run writes the earlier epochs' lines again.

    When the disk is full during the run, training goes on, and lines are written when there is room again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._enduring = Enduring(self.path)
        self._file: TextIO | None = None

    def on_train_begin(self, state: TrainingState) -> None:
        """Open the file anew, and write what the history holds already.

        Raises:
            OSError: if it cannot be written.
        """
        self._file = Path(self.path).open("w", encoding="utf-8", newline="")  # noqa: SIM115 - open during the run
        for epoch in range(state.history.epochs):
            row = {name: values[epoch] for name, values in state.history.history.items()}
            self._write(self._file, {"epoch": epoch + 1, **row})
        self._file.flush()

    def on_epoch_end(self, state: TrainingState) -> None:
        """Write the epoch's line."""
        if self._file is not None:
            with self._enduring.attempt():
                self._write(self._file, {"epoch": state.epoch + 1, **state.logs})
                self._file.flush()

    def on_train_end(self, state: TrainingState) -> None:
        """Close the file."""
        if self._file is not None:
            with self._enduring.attempt():
                self._file.close()
            self._file = None

    def _write(self, file: TextIO, row: dict[str, float]) -> None:
        raise NotImplementedError


class CSVLogger(_LineLogger):
    """Writes the numbers of ``History`` as comma-separated values: a header, then a row for each epoch.

    An existing file is replaced.
    """

    def _write(self, file: TextIO, row: dict[str, float]) -> None:
        writer = csv.writer(file, lineterminator="\n")
        if row["epoch"] == 1:
            writer.writerow(row)
        writer.writerow(row.values())


class JSONLinesLogger(_LineLogger):
    """Writes the numbers of ``History`` as one JSON object a line for each epoch.

    NaN and infinity become null. An existing file is replaced.
    """

    def _write(self, file: TextIO, row: dict[str, float]) -> None:
        file.write(json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n")
