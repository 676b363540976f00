"""What batches measured, as if they had been one large batch.

A backend may answer with numbers that still lie on its device, as arrays without axes. To read one means to
wait until the device has come that far; so they are read when somebody asks, or when many have gathered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SUMS = frozenset({"loss", "penalty", "divisor", "batches", "right", "labels"})
"""What is added up."""
_GATHERED = 100  # batches whose numbers may wait to be read


@dataclass(frozen=True)
class Measured:
    """What one batch measured: numbers, or what becomes numbers when they are read from a device.

    Attributes:
        loss: of the batch, without penalties on weights.
        divisor: what the loss is a mean over, see ``Loss.divisor``; None for a sum.
        penalty: on weights, which belongs to the loss.
        right: how many of the labels were right; None where there are no labels.
        counted: how many of them count.
    """

    loss: Any
    divisor: Any
    penalty: Any = 0.0
    right: Any = None
    counted: Any = 0

    @property
    def is_read(self) -> bool:
        """Whether all of it are numbers."""
        return all(isinstance(number, int | float | np.generic | None) for number in self._numbers)

    def read(self) -> Measured:
        """The same as numbers."""
        return Measured(*(None if number is None else float(number) for number in self._numbers))

    def __float__(self) -> float:
        """The whole loss."""
        return float(self.loss) + float(self.penalty)

    @property
    def _numbers(self) -> tuple[Any, ...]:
        return self.loss, self.divisor, self.penalty, self.right, self.counted


class Means:
    """The loss and the accuracy of the batches so far.

    Losses that are means are weighted by what they are means over: a batch in which nothing counts, whose
    mean is 0 / 0, takes no part. Losses that are sums are added up. Penalties on weights count once. The
    accuracy is the part of all labels that count.

    Attributes:
        strange: number and value of the first loss among those read that was NaN or infinite though something
            counted, counted from 0 in the batches added; None if there was none.
    """

    def __init__(self) -> None:
        self.strange: tuple[int, float] | None = None
        self._batches = 0
        self._sums: dict[str, float] = {}
        self._unread: list[Measured] = []

    def add(self, measured: Measured) -> None:
        """Add what one batch measured."""
        if self._unread or not measured.is_read:
            self._unread.append(measured)
            if len(self._unread) >= _GATHERED:
                self.read()
            return
        self._add(measured.read())

    def read(self) -> bool:
        """Read what has not been read yet; whether there was anything."""
        unread, self._unread = self._unread, []
        for measured in unread:
            self._add(measured.read())
        return bool(unread)

    def _add(self, measured: Measured) -> None:
        number, self._batches = self._batches, self._batches + 1
        more = {} if measured.right is None else {"right": measured.right, "labels": measured.counted}
        # Of a mean the penalty is a mean as well; of a sum it is added once, as the mean of the batches'.
        share = 1.0 if measured.divisor is None else measured.divisor
        whole = "batches" if measured.divisor is None else "divisor"
        more[whole] = share
        if share:
            loss = measured.loss + measured.penalty
            if self.strange is None and not math.isfinite(loss):
                self.strange = number, loss
            more |= {"loss": share * measured.loss, "penalty": share * measured.penalty}
        for name, value in more.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def logs(self) -> dict[str, float]:
        """The loss, and where there are labels the accuracy, so far: NaN where nothing counts."""
        self.read()
        sums, logs = self._sums, {}
        if "divisor" in sums:
            logs["loss"] = _quotient(sums.get("loss", 0.0) + sums.get("penalty", 0.0), sums["divisor"])
        elif "batches" in sums:
            logs["loss"] = sums["loss"] + sums["penalty"] / sums["batches"]
        if "labels" in sums:
            logs["accuracy"] = _quotient(sums["right"], sums["labels"])
        return logs

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        self.read()
        return dict(self._sums)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from these sums."""
        self._sums = dict(state_dict)
        self._unread = []


def _quotient(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
