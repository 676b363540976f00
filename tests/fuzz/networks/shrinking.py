"""A smaller network that fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .node import smaller

if TYPE_CHECKING:
    from .case import Case

SECONDS = 20.0


def shrunk(case: Case, found: str, run: Callable[[Case], str | None]) -> Case:
    """Leave out layers, then examples, for as long as the same check still fails, or for 20 seconds."""
    kind, end = found.partition(":")[0], time.monotonic() + SECONDS

    def fails(other: Case) -> bool:
        try:
            return (run(other) or "").partition(":")[0] == kind
        except Exception as error:
            return type(error).__name__ == kind

    again = True
    while again and time.monotonic() < end:
        again = False
        for path in smaller(case.path):
            frozen = case.frozen if case.frozen is not None and case.frozen < len(path) else None
            less = replace(case, path=path, frozen=frozen)
            if time.monotonic() < end and fails(less):
                case, again = less, True
                break
    for n in (1, 2):
        less = replace(case, shape=(n, *case.shape[1:]))
        if n < case.shape[0] and time.monotonic() < end and fails(less):
            return less
    return case
