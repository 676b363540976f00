"""Timing programs side by side: in turn and warm, so that all meet the same machine; medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

_PAUSE = 0.12  # seconds after which the last contestant's threads sleep; OpenBLAS spins for most of it
_BURST = 3  # calls that count, each turn
_LONG = 0.25  # seconds beyond which a call counts without another to warm it up, and alone


def alternate(
    contestants: Mapping[str, Callable[[], object]], seconds: float = 1.0, least: int = 4
) -> dict[str, float]:
    """The median time of each contestant's call, in seconds.

    In each round, each contestant in turn waits for the others' threads to sleep, runs once to warm up, and
    then a few times that count. Calls that take long need no such warming: they run once a round.

    Args:
        contestants: what to call, by name.
        seconds: how long to go on, about.
        least: rounds to make at any rate.
    """
    return {name: statistics.median(times) for name, times in race(contestants, seconds, least).items()}


def race(
    contestants: Mapping[str, Callable[[], object]], seconds: float = 1.0, least: int = 4
) -> dict[str, list[float]]:
    """All times of each contestant's call, in seconds; see :func:`alternate`."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or time.perf_counter() < end:
        for name, run in contestants.items():
            time.sleep(_PAUSE)
            first = _timed(run)
            if first > _LONG:
                # The very first call of all may still compile or allocate.
                times[name].append(_timed(run) if rounds == 0 else first)
            else:
                times[name] += [_timed(run) for _ in range(_BURST)]
        rounds += 1
    return times


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
