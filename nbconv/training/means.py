"""Running means of what batches measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Means:
    """Running means, weighted by the batches' numbers of examples."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[str, float] = {}

    def add(self, examples: int, measured: Mapping[str, float]) -> None:
        """Add what one batch measured."""
        self._count += examples
        for name, value in measured.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * examples

    def logs(self) -> dict[str, float]:
        """The means so far."""
        return {name: total / self._count for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return {"count": self._count, "sums": dict(self._sums)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from these sums."""
        self._count, self._sums = state_dict["count"], dict(state_dict["sums"])
