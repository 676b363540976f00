"""What this machine can do at most: multiply-adds a second, bytes a second, and the least cost of a call."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from nbconv.bench.timing import alternate
from nbconv_kernels import cpu
from nbconv_kernels.cpu import limits

_STEPS = 400_000  # about 3 ms
COPIES = tuple(1 << exponent for exponent in range(16, 29))
"""Bytes of both arrays of the copies that are measured."""


def fma_run() -> tuple[Callable[[], object], float]:
    """(a call that does nothing but float32 multiply-adds on all threads, its floating-point operations)."""
    return lambda: limits.multiply_add(_STEPS), limits.multiply_add(1) * _STEPS


def copy_run(size: int) -> Callable[[], object]:
    """A call that copies on all threads from one half of ``size`` bytes to the other."""
    source, target = (np.ones(size // 8, np.float32) for _ in range(2))
    return lambda: limits.copy(source, target)


@cache
def peak() -> float:
    """Floating-point operations a second, float32, all threads."""
    run, operations = fma_run()
    return operations / alternate({"": run}, 1.0)[""]


@cache
def bandwidths() -> dict[int, float]:
    """Bytes a second of a copy, by the size of its two arrays; what is written is read first."""
    return {size: 1.5 * size / alternate({"": copy_run(size)}, 0.3)[""] for size in COPIES}


def bandwidth(footprint: float) -> float:
    """Bytes a second of the copy whose arrays are nearest to ``footprint`` bytes."""
    return bandwidths()[min(COPIES, key=lambda known: abs(np.log(max(footprint, 1.0) / known)))]


@cache
def overhead() -> float:
    """Seconds of an op that has next to nothing to do."""
    x = np.ones(16, np.float32)
    return alternate({"": lambda: [cpu.relu(x) for _ in range(100)]}, 0.3)[""] / 100
