"""Timing two programs side by side: in turn, after a warm-up, medians, so that both meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def alternate(
    contestants: dict[str, Callable[[], object]], seconds: float = 0.6, least: int = 7
) -> dict[str, float]:
    """The median time of each contestant, in seconds, from rounds in which each runs once.

    Args:
        contestants: what to call, by name.
        seconds: how long to go on, about.
        least: rounds to make at any rate.
    """
    for run in contestants.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < least:
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
