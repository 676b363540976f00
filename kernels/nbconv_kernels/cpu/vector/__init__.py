"""Vectors of a register's width as values in kernels, for loops that LLVM does not vectorise by itself.

A pooling keeps one value per channel over two nested loops of its window. LLVM vectorises innermost loops
only, and those only well when they are long; with the channels in a vector variable the window stays in
registers, and six channels cost one masked operation instead of six scalar ones.

``load`` and ``store`` take the number of elements that exist from a place on: lanes behind them are read as
zero and not written. Limit: whatever the loop around is limited by; each function here is one or two
instructions.
"""

from __future__ import annotations

from nbconv_kernels.cpu.vector.access import (
    lanes,
    load,
    load_double,
    load_or,
    load_places,
    store,
    transpose_square,
)
from nbconv_kernels.cpu.vector.arithmetic import (
    beats,
    choose,
    count,
    equal,
    fill,
    firsts,
    larger,
    largest,
    minus,
    plus,
    seconds,
    smaller,
    times,
    total,
)
from nbconv_kernels.cpu.vector.kind import Vector

__all__ = [
    "Vector",
    "beats",
    "choose",
    "count",
    "equal",
    "fill",
    "firsts",
    "lanes",
    "larger",
    "largest",
    "load",
    "load_double",
    "load_or",
    "load_places",
    "minus",
    "plus",
    "seconds",
    "smaller",
    "store",
    "times",
    "total",
    "transpose_square",
]
