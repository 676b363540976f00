"""Saving a run so that it can be resumed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.callbacks.monitor import Monitor, needs_validation
from nbconv.history import NAMES

_COUNTS = ("epoch", "step")


class Checkpoint(Callback):
    """Writes files from which ``fit(..., resume=path)`` goes on as if the run had never stopped.

    A file holds the model, the optimiser, the other callbacks, the random state and the place in the epoch,
    and appears whole or not at all. ``nb.load`` reads the model in it. When Ctrl-C stops the run, it is saved
    as well. Checkpoints are written after all other callbacks were called.

    Args:
        path: of the file, in which ``str.format`` puts the numbers of epochs and steps that are over, so that
            earlier files stay, and what the last epoch measured, by its names in ``History``:
            "w-{epoch:03d}-{val_loss:.2f}.safetensors". Braces that belong to the name are written twice.
        every_epochs: save after so many epochs; 0 for not at all.
        every_steps: save also after so many steps of the optimiser.
        monitor: save only after epochs that this measurement, a name in ``History``, calls the best so far.
        mode: whether "min" or "max" of it is better; None tells it from the name.
        extra: kept in the file for its reader: anything JSON can hold.

    Attributes:
        saved: the file written last, or None.

    Raises:
        ValueError: for arguments out of range, and for a path with other fields.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_epochs: int = 1,
        every_steps: int = 0,
        monitor: str | None = None,
        mode: str | None = None,
        extra: Any = None,
    ) -> None:
        if every_epochs < 0 or every_steps < 0:
            raise ValueError(f"Checkpoint: got every_epochs={every_epochs}, every_steps={every_steps}")
        if monitor is not None and every_steps:
            raise ValueError("Checkpoint: measurements are made after epochs, not after every_steps")
        self.path = os.fspath(path)
        self._measured = _measurements(self.path)
        if self._measured and every_steps:
            raise ValueError(
                f"Checkpoint: {self.path!r} names measurements, which are made after epochs, not after "
                "every_steps"
            )
        self.every_epochs, self.every_steps = every_epochs, every_steps
        self.monitor = None if monitor is None else Monitor(monitor, mode)
        self.extra = extra
        self.saved: str | None = None
        # The best one first: so the others' files know of it.
        self.order = 1 if monitor is not None else 2
        self.best = self.monitor.worst if self.monitor else 0.0

    def on_train_begin(self, state: TrainingState) -> None:
        """See that there is somewhere to write.

        Raises:
            FileNotFoundError: if there is no such directory.
            ValueError: if it watches or names a measurement on validation data, and there are none.
        """
        if self.monitor is not None:
            self.monitor.check(state, "Checkpoint")
        for name in self._measured:
            if needs_validation(name, state):
                raise ValueError(f"Checkpoint: {name!r} in {self.path!r}: fit needs validation data")
        folder = Path(self._path(state)).absolute().parent
        if not folder.is_dir():
            raise FileNotFoundError(2, "no such directory for checkpoints", str(folder))
        if self.monitor is not None:
            self.best = self.monitor.worst

    def on_batch_end(self, state: TrainingState) -> None:
        """Save if it is time."""
        if self.every_steps and state.stepped and state.step % self.every_steps == 0:
            self.save(state)

    def on_epoch_end(self, state: TrainingState) -> None:
        """Save if it is time, or if the epoch was the best."""
        if self.monitor is not None:
            value = self.monitor.value(state.logs, "Checkpoint")
            if self.monitor.is_better(value, self.best):
                self.best = value
                self.save(state)
        elif self.every_epochs and (state.stop or (state.epoch + 1) % self.every_epochs == 0):
            self.save(state)

    def on_train_end(self, state: TrainingState) -> None:
        """Save a run that Ctrl-C has stopped, unless that was in the middle of a step."""
        if state.history.interrupted and state.at_rest and self.monitor is None:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Write the file now.

        Raises:
            OSError: if it cannot be written.
        """
        from nbconv.training import snapshot

        path = self._path(state)
        snapshot.save(state, path, self.extra)
        self.saved = path

    def state_dict(self) -> dict[str, Any]:
        """The best measurement, where there is one."""
        return {"best": self.best, "monitor": self.monitor.described()} if self.monitor else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: if it watched another measurement.
        """
        if self.monitor is not None:
            self.monitor.check_same(state_dict)
        self.best = state_dict["best"]

    def _path(self, state: TrainingState) -> str:
        over = state.epoch + 1 if state.epoch_over else state.epoch
        last = state.history.last()
        if last:
            missing = [name for name in self._measured if name not in last]
            if missing:
                raise ValueError(f"Checkpoint: there is no {missing[0]!r} among {', '.join(last)}")
        # Ctrl-C may come before anything is measured.
        measured = {name: float(last.get(name, math.nan)) for name in self._measured}
        return self.path.format(epoch=over, step=state.step, **measured)


def literal(path: str | os.PathLike[str]) -> str:
    """A path for a :class:`Checkpoint` in which braces are those of the name."""
    return os.fspath(path).replace("{", "{{").replace("}", "}}")


def _measurements(path: str) -> list[str]:
    """The measurements that a path names.

    Raises:
        ValueError: for fields of other names, or in a format that does not fit them.
    """
    try:
        fields = [(name, inner, as_text) for _, name, inner, as_text in Formatter().parse(path)]
        named = [field for field in fields if field[0] is not None]
        for name, inner, as_text in named:
            if name not in (*_COUNTS, *NAMES) or as_text or "{" in (inner or ""):
                raise ValueError(f"no field {{{name}}}: there are {', '.join((*_COUNTS, *NAMES))}")
        path.format(**dict.fromkeys(_COUNTS, 0), **dict.fromkeys(NAMES, math.nan))
    except ValueError as error:
        raise ValueError(
            f"Checkpoint: the path {path!r}: {error}. Braces that belong to the name are written twice."
        ) from None
    return [name for name in NAMES if any(name == field[0] for field in named)]
