"""Loops over lanes that NumPy has no word for, compiled: copies, fused arithmetic, shadow memory, counters.

Every function here stands alone in this file, because Numba's cache watches the file a function stands in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from nbconv_kernels.cuda.emulator.types import Value

__all__ = ["banks", "fma", "load", "maximum", "minimum", "sectors", "select", "store", "watch"]


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call, and keep the machine code where Numba finds a place for it."""
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):
        dispatcher.enable_caching()
    return dispatcher


@intrinsic
def _fused(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, b, c), generate


@_compiled
def _fma(a, b, c, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = _fused(a[k], b[k], c[k])  # type: ignore[call-arg]


@_compiled
def _minimum(a, b, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        if a[k] == b[k]:
            out[k] = a[k] if np.signbit(a[k]) else b[k]
        else:
            out[k] = a[k] if a[k] < b[k] or b[k] != b[k] else b[k]


@_compiled
def _maximum(a, b, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        if a[k] == b[k]:
            out[k] = b[k] if np.signbit(a[k]) else a[k]
        else:
            out[k] = a[k] if a[k] > b[k] or b[k] != b[k] else b[k]


@_compiled
def _select(condition, a, b, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = a[k] if condition[k] else b[k]


def _with_scalars(loop: Any, *values: Value) -> Value:
    """``loop`` over the lanes, where some values are scalars; the result is of the last one's dtype."""
    size = max(value.size for value in values)
    out = np.empty(size, values[-1].dtype)
    loop(*[value if value.ndim else np.full(size, value) for value in values], out)
    return out if any(value.ndim for value in values) else out[0]


def fma(a: Value, b: Value, c: Value) -> Value:
    """The product of a and b, plus c, rounded once: float32 or float64."""
    if a.ndim and b.ndim and c.ndim:
        out = np.empty(a.size, a.dtype)
        _fma(a, b, c, out)
        return out
    return _with_scalars(_fma, a, b, c)


def minimum(a: Value, b: Value) -> Value:
    """The smaller one; the other one where one is NaN; -0 is smaller than 0."""
    if a.ndim and b.ndim:
        out = np.empty(a.size, a.dtype)
        _minimum(a, b, out)
        return out
    return _with_scalars(_minimum, a, b)


def maximum(a: Value, b: Value) -> Value:
    """The greater one; the other one where one is NaN; 0 is greater than -0."""
    if a.ndim and b.ndim:
        out = np.empty(a.size, a.dtype)
        _maximum(a, b, out)
        return out
    return _with_scalars(_maximum, a, b)


def select(condition: Value, a: Value, b: Value) -> Value:
    """``a`` where the condition holds, else ``b``; both of one dtype."""
    if condition.ndim == 0:
        return a if condition else b
    if a.ndim and b.ndim:
        out = np.empty(a.size, a.dtype)
        _select(condition, a, b, out)
        return out
    return _with_scalars(_select, condition, a, b)


@_compiled
def load(memory, addresses, lanes, origin, limit, per_row, row, count, align, out):  # type: ignore[no-untyped-def]
    """Copy ``count`` elements for each lane to ``out[lane]``; the first lane at fault, or -1.

    Lane l reads at ``addresses[l] - origin`` bytes into row ``l // per_row`` of ``memory``; rows are ``row``
    elements long, ``limit`` bytes of each in bounds. ``align`` is a power of two.
    """
    size = memory.itemsize  # 1 or 4; a division by it would take longer than all the rest
    shift = 0 if size == 1 else 2
    low = high = start = 0
    for k in range(lanes.size):
        lane = lanes[k]
        at = addresses[lane] - origin
        if at < 0 or at + count * size > limit or addresses[lane] & (align - 1):
            return lane
        if lane < low or lane >= high:
            low = lane // per_row * per_row
            high, start = low + per_row, lane // per_row * row
        first = start + (at >> shift)
        for j in range(count):
            out[lane, j] = memory[first + j]
    return -1


@_compiled
def store(memory, addresses, lanes, origin, limit, per_row, row, count, align, values):  # type: ignore[no-untyped-def]
    """Copy ``values[lane]`` to memory; arguments and result as in ``load``."""
    size = memory.itemsize  # 1 or 4; a division by it would take longer than all the rest
    shift = 0 if size == 1 else 2
    low = high = start = 0
    for k in range(lanes.size):
        lane = lanes[k]
        at = addresses[lane] - origin
        if at < 0 or at + count * size > limit or addresses[lane] & (align - 1):
            return lane
        if lane < low or lane >= high:
            low = lane // per_row * per_row
            high, start = low + per_row, lane // per_row * row
        first = start + (at >> shift)
        for j in range(count):
            memory[first + j] = values[lane, j]
    return -1


@_compiled
def watch(writers, readers, addresses, lanes, origin, per_row, row, shift, nbytes, storing, stamps, shared):  # type: ignore[no-untyped-def]
    """Note who touches which unit of memory and find who else did without a barrier between.

    A stamp is the block in the high 32 bits, the block's count of barriers above the low 6, and the warp in
    these; 63 in place of a warp stands for several, -1 in place of a stamp for several blocks, 0 for nobody.

    Returns:
        How many lanes met another warp, the first of these, the stamp it met, and what happened: 1 a read of
        what another wrote, 2 a write over what another wrote, 3 a write over what another read, 4 a read of
        shared memory that nobody wrote.
    """
    many, found, met, what = 0, -1, 0, 0
    low = high = start = 0
    for k in range(lanes.size):
        lane = lanes[k]
        own = stamps[lane]
        if lane < low or lane >= high:
            low = lane // per_row * per_row
            high, start = low + per_row, lane // per_row * row
        first = start + ((addresses[lane] - origin) >> shift)
        last = start + ((addresses[lane] - origin + nbytes - 1) >> shift)
        kind = 0
        other = 0
        for unit in range(first, last + 1):
            writer = writers[unit]
            if shared and not storing and writer == 0:
                kind, other = 4, 0
            if (
                writer != 0
                and writer != own
                and ((writer >> 32) != (own >> 32) or (writer >> 6) == (own >> 6))
            ):
                kind, other = (2 if storing else 1), writer
            reader = readers[unit]
            if storing:
                if (
                    kind == 0
                    and reader != 0
                    and reader != own
                    and ((reader >> 32) != (own >> 32) or (reader >> 6) == (own >> 6))
                ):
                    kind, other = 3, reader
                writers[unit] = own
            elif reader == 0 or (reader != own and (reader >> 32) == (own >> 32)):
                readers[unit] = own | 63 if (reader >> 6) == (own >> 6) else own
            elif reader != own:
                readers[unit] = -1
        if kind != 0:
            if many == 0:
                found, met, what = lane, other, kind
            many += 1
    return many, found, met, what


@_compiled
def banks(addresses, lanes, nbytes):  # type: ignore[no-untyped-def]
    """Shared-memory accesses of a warp: how many there are, and how many cycles of 32 banks they take.

    Lanes with 8 and 16 bytes each are served in halves and quarters of a warp; one word asked for by several
    lanes is read once.
    """
    words = max(1, nbytes // 4)
    together = 32 // words
    held = np.empty((32, 32), np.int64)
    counts = np.zeros(32, np.int64)
    requests = wavefronts = deepest = 0
    group = -1
    for k in range(lanes.size):
        lane = lanes[k]
        if lane // together != group:
            group = lane // together
            wavefronts += deepest
            requests += 1
            deepest = 0
            counts[:] = 0
        for j in range(words):
            word = addresses[lane] // 4 + j
            bank = word % 32
            new = True
            for i in range(counts[bank]):
                if held[bank, i] == word:
                    new = False
                    break
            if new:
                held[bank, counts[bank]] = word
                counts[bank] += 1
                deepest = max(deepest, counts[bank])
    return requests, wavefronts + deepest


@_compiled
def sectors(addresses, lanes, nbytes):  # type: ignore[no-untyped-def]
    """Global-memory accesses: how many a warp makes, and how many distinct sectors of 32 bytes they touch."""
    held = np.empty(64, np.int64)
    count = requests = total = 0
    warp = -1
    for k in range(lanes.size):
        lane = lanes[k]
        if lane // 32 != warp:
            warp = lane // 32
            requests += 1
            count = 0
        for sector in range(addresses[lane] // 32, (addresses[lane] + nbytes - 1) // 32 + 1):
            new = True
            for i in range(count - 1, -1, -1):
                if held[i] == sector:
                    new = False
                    break
            if new:
                held[count] = sector
                count += 1
                total += 1
    return requests, total
