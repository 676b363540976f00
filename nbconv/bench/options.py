"""What a run of the benchmarks is asked for, and how it tells about its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbconv.bench.cases import Case

Row = dict[str, Any]
"""One line of a report, as it goes into the JSON file; "name" tells it from the section's others."""


@dataclass(frozen=True)
class Options:
    """A run.

    Attributes:
        cases: networks to race.
        peers: names of whom to race against.
        threads: of everyone.
        seconds: how long a race goes on, about; slow ones take longer.
        say: takes a line for the user.
    """

    cases: list[Case]
    peers: list[str]
    threads: int
    seconds: float
    say: Callable[[str], None]
