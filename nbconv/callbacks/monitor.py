"""Which of an epoch's numbers to watch, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping


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
