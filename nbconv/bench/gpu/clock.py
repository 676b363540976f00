"""Timing on the GPU's own clock: events around calls in a row, contestants in turn, medians."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from statistics import median

Run = Callable[[], object]
Timer = Callable[[Run, int], float]
"""Seconds a call takes, of so many in a row."""

_WARM = 3  # calls before any that counts: compiling, loading, cuDNN's search, memory
_LONGEST = 1000  # calls in a row


def on_gpu(run: Run, calls: int) -> float:
    """The time between two events around ``calls`` calls, as the GPU sees it, for one of them."""
    cupy = import_module("cupy")
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, end)) / 1e3 / calls


def race(
    contestants: Mapping[str, Run], timer: Timer = on_gpu, rounds: int = 15, row: float = 5e-3
) -> dict[str, float]:
    """The median time of each contestant's call, in seconds.

    Args:
        contestants: what to call, by name. All must work on the stream that the timer watches.
        timer: times calls in a row.
        rounds: in each, every contestant has its turn; every second one in reverse order.
        row: seconds of calls in a row, about, so that an event's cost does not show.
    """
    calls = {}
    for name, run in contestants.items():
        timer(run, _WARM)
        calls[name] = min(_LONGEST, max(1, math.ceil(row / max(timer(run, 1), 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(rounds):
        for name in order if number % 2 == 0 else reversed(order):
            times[name].append(timer(contestants[name], calls[name]))
    return {name: median(values) for name, values in times.items()}
