"""What all peers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nbconv.typing import Array


class Unavailable(Exception):  # noqa: N818 - no mistake was made
    """A peer cannot take part; the message says why."""


class Step(NamedTuple):
    """A training step, and what is compared to make sure that all take the same one.

    Attributes:
        run: forward, cross entropy, backward, SGD with momentum; returns nothing of interest.
        probe: (loss, every gradient in one row) of the first weights, without a step.
    """

    run: Callable[[], object]
    probe: Callable[[], tuple[float, Array]]


LR = 1e-3
MOMENTUM = 0.9
