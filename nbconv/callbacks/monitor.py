"""Which of an epoch's numbers to watch, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nbconv.callbacks.base import Callback, TrainingState

_VALIDATED = ("val_loss", "val_accuracy")  # what fit measures on validation data


def _measures(callback: Callback) -> bool:
    """Whether a callback may add measurements of its own to an epoch's: none of nbconv's does."""
    kind = type(callback)
    own = (
        kind.on_epoch_trained is not Callback.on_epoch_trained
        or kind.on_epoch_end is not Callback.on_epoch_end
    )
    return own and not kind.__module__.startswith("nbconv.")


def needs_validation(name: str, state: TrainingState) -> bool:
    """Whether a run measures this on validation data only, and has none."""
    return name in _VALIDATED and not state.validates and not any(map(_measures, state.callbacks))


class Monitor:
    """A measurement by its name in ``History``.

    Args:
        name: such as "val_loss".
        mode: whether "min" or "max" is better; None tells it from the name.

    Raises:
        ValueError: for another mode, or a name that does not tell.
    """

    def __init__(self, name: str, mode: str | None = None) -> None:
        if mode is None:
            mode = "min" if name.endswith("loss") else "max" if name.endswith("accuracy") else None
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max" for {name!r}, got {mode!r}')
        self.name, self.mode = name, mode

    def check(self, state: TrainingState, who: str) -> None:
        """See before a run that the measurement will be there, as far as that can be known.

        Raises:
            ValueError: if it is one on validation data, and there are none.
        """
        if needs_validation(self.name, state):
            raise ValueError(f"{who}: there will be no {self.name!r}; fit needs validation data")

    def described(self) -> list[str]:
        """What is watched, for a checkpoint."""
        return [self.name, self.mode]

    def check_same(self, state_dict: Mapping[str, Any]) -> None:
        """See that a checkpoint is of the same measurement.

        Raises:
            ValueError: if it is not: the best of another one means nothing here.
        """
        here = self.described()
        saved = list(state_dict.get("monitor", here))
        if saved != here:
            raise ValueError(f"it watched {saved[0]!r} ({saved[-1]!r}), this one {here[0]!r} ({here[1]!r})")

    def value(self, logs: Mapping[str, float], who: str) -> float:
        """The measurement.

        Raises:
            ValueError: if it is not there.
        """
        if self.name not in logs:
            hint = "; fit needs validation data" if self.name.startswith("val_") else ""
            raise ValueError(f"{who}: there is no {self.name!r} among {', '.join(logs)}{hint}")
        return float(logs[self.name])

    @property
    def worst(self) -> float:
        """What everything is better than."""
        return math.inf if self.mode == "min" else -math.inf

    def is_better(self, value: float, best: float, min_delta: float = 0.0) -> bool:
        """Whether a value is better than the best so far, by more than ``min_delta``; NaN never is."""
        return value < best - min_delta if self.mode == "min" else value > best + min_delta
