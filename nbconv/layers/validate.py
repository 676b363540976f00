"""Checks of arguments that several layers share."""

from __future__ import annotations

import operator

from nbconv.typing import Pair
from nbconv_kernels.geometry import pair


def positive_integer(value: int, name: str) -> int:
    """``value`` as an int.

    Raises:
        ValueError: unless it is an integer of at least 1.
    """
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return number


def positive_pair(value: int | Pair, name: str) -> Pair:
    """``value`` as (height, width).

    Raises:
        ValueError: unless it is one or two integers of at least 1.
    """
    height, width = pair(value, name)
    if min(height, width) < 1:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return height, width
