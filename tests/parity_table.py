"""The parity table itself, and what its rows are made of.

``CASES[op][name]`` makes a call's arguments from a random generator, arrays in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Rng:
    """Random arrays, without axes too where ``size`` is ()."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def normal(self, *, size: Any) -> np.ndarray:
        return np.array(self._rng.normal(size=size))

    def uniform(self, low: float, high: float, size: Any) -> np.ndarray:
        return np.array(self._rng.uniform(low, high, size))

    def integers(self, low: int, high: int, size: Any) -> np.ndarray:
        return np.array(self._rng.integers(low, high, size))


class Call(NamedTuple):
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Case(NamedTuple):
    make: Callable[[Rng], Call]
    terms: int = 1


CASES: dict[str, dict[str, Case]] = {}

# Ops that write to these of their arguments, which must be C-contiguous except where "any layout" is said.
IN_PLACE = {
    "sgd_step": (0, 2),
    "adam_step": (0, 2, 3),
    "accumulate": (0,),
    "accumulate_channels": (0,),
    "put_channels": (0,),
    "accumulate_relu": (0,),
    "conv2d_onto": (0,),
    "add_scaled": (0,),
}
IN_PLACE_ANY_LAYOUT = {
    "accumulate",
    "accumulate_channels",
    "accumulate_relu",
    "add_scaled",
    "conv2d_onto",
    "put_channels",
}


def case(op: str, name: str, make: Callable[[Rng], Call], terms: int = 1) -> None:
    CASES.setdefault(op, {})[name] = Case(make, terms)


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs)
