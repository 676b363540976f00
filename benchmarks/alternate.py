"""Timing programs side by side: in turn and warm, so that all meet the same machine; medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_PAUSE = 0.12  # seconds after which the last contestant's threads sleep; OpenBLAS spins for most of it
_BURST = 3  # calls that count, each turn


def alternate(
    contestants: dict[str, Callable[[], object]], seconds: float = 1.0, least: int = 4
) -> dict[str, float]:
    """The median time of each contestant's call, in seconds.

    In each round, each contestant in turn waits for the others' threads to sleep, runs once to warm up, and
    then a few times that count.

    Args:
        contestants: what to call, by name.
        seconds: how long to go on, about.
        least: rounds to make at any rate.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or time.perf_counter() < end:
        for name, run in contestants.items():
            time.sleep(_PAUSE)
            run()
            for _ in range(_BURST):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}
