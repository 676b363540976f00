"""Running means of what batches measured.

A backend may answer with numbers that still lie on its device, as arrays without axes. To read one means to
wait until the device has come that far; so they are read when somebody asks, or when many have gathered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_GATHERED = 100  # batches whose numbers may wait to be read


class Means:
    """Running means, weighted by the batches' numbers of examples.

    Attributes:
        strange: number and value of the first loss among those read that was NaN or infinite, counted from 0
            in the batches added; None if there was none.
    """

    def __init__(self) -> None:
        self.strange: tuple[int, float] | None = None
        self._count = 0
        self._sums: dict[str, float] = {}
        self._batches = 0
        self._unread: list[tuple[int, Mapping[str, Any]]] = []

    def add(self, examples: int, measured: Mapping[str, Any]) -> None:
        """Add what one batch measured: numbers, or what can be made one."""
        if self._unread or not all(isinstance(v, int | float | np.generic) for v in measured.values()):
            self._unread.append((examples, measured))
            if len(self._unread) >= _GATHERED:
                self.read()
            return
        self._add(examples, measured)

    def read(self) -> bool:
        """Read what has not been read yet; whether there was anything."""
        unread, self._unread = self._unread, []
        for examples, measured in unread:
            self._add(examples, {name: float(value) for name, value in measured.items()})
        return bool(unread)

    def _add(self, examples: int, measured: Mapping[str, float]) -> None:
        if self.strange is None and not math.isfinite(measured.get("loss", 0.0)):
            self.strange = self._batches, measured["loss"]
        self._count += examples
        self._batches += 1
        for name, value in measured.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * examples

    def logs(self) -> dict[str, float]:
        """The means so far."""
        self.read()
        return {name: total / self._count for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        self.read()
        return {"count": self._count, "sums": dict(self._sums)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from these sums."""
        self._count, self._sums = state_dict["count"], dict(state_dict["sums"])
        self._unread = []
