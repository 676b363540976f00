"""Where a convolution's output goes, and what is kept of its weights from call to call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nbconv_kernels.cpu.epilogue import PLAIN, Finish
from nbconv_kernels.cpu.memory import Array, empty
from nbconv_kernels.geometry import Conv2dGeometry

Kept = dict[str, Any]
"""Weights as an algorithm wants them, by the algorithm, for as long as the weights are the same."""


class Target(NamedTuple):
    """Some channels of an array, from ``channel`` on, and the finish of what is written there."""

    y: Array  # (N, P, Q, channels), C-contiguous
    channel: int
    finish: Finish


def target_of(given: Target | None, g: Conv2dGeometry, dtype: np.dtype[Any]) -> Target:
    """The target given, or all of a new array."""
    return Target(empty((g.n, g.p, g.q, g.k), dtype), 0, PLAIN) if given is None else given
