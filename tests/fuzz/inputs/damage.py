"""Damage that fits any file: bytes flipped, cut off, put in, swapped, numbers at their extremes."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62)
TEXTS = ("0", "-1", "1", "255", "2147483647", "4294967296", "1e308", "-0.0", "nan", "9" * 40, "9" * 5000)


def one_of(rng: Random, *values):
    return values[rng.integers(len(values))]


def _piece(data: bytes, rng: Random) -> tuple[int, int]:
    """Where a random piece begins and ends; short ones are likelier."""
    start = int(rng.integers(len(data) + 1))
    return start, min(len(data), start + int(rng.integers(1, 1 << int(rng.integers(1, 11)))))


def flip_bits(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if changed else 0):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def extend(data: bytes, rng: Random) -> bytes:
    return data + one_of(rng, bytes(64), rng.bytes(100), data, b"\n\n")


def leave_out(data: bytes, rng: Random) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: Random) -> bytes:
    start, end = _piece(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 5)) + data[end:]


def swap(data: bytes, rng: Random) -> bytes:
    a, b, c, d = sorted(int(place) for place in rng.integers(len(data) + 1, size=4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def blank(data: bytes, rng: Random) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + bytes([one_of(rng, 0, 255, 32)]) * (end - start) + data[end:]


def set_number(data: bytes, rng: Random) -> bytes:
    """A number of some bytes at its extremes; most headers are near the beginning."""
    size = int(one_of(rng, 1, 2, 4, 8))
    place = int(rng.integers(max(1, min(len(data), int(one_of(rng, 16, 64, 256, 1 << 30))))))
    number = (one_of(rng, *EXTREMES) % (1 << 8 * size)).to_bytes(size, one_of(rng, "little", "big"))
    return data[:place] + number + data[place + size :]


def set_text_number(data: bytes, rng: Random) -> bytes:
    """A number that is written in digits."""
    found = list(re.finditer(rb"\d+", data[:20_000]))
    if not found:
        return set_number(data, rng)
    place = found[rng.integers(len(found))]
    return data[: place.start()] + one_of(rng, *TEXTS).encode() + data[place.end() :]


ANY: tuple[Mutation, ...] = (
    *(flip_bits, cut, extend, leave_out, repeat, swap, blank),
    *(set_number, set_number, set_text_number),
)
"""Mutations of bytes that mean anything."""


def spliced(data: bytes, other: bytes, rng: Random) -> bytes:
    """The beginning of one and the end of another."""
    return data[: rng.integers(len(data) + 1)] + other[rng.integers(len(other) + 1) :]


def damaged(bases: list[bytes], own: tuple[Mutation, ...], rng: Random) -> bytes:
    """One of the well-formed files, after one to three mutations; now and then as it is."""
    data = one_of(rng, *bases)
    if rng.random() < 0.05:
        return spliced(data, one_of(rng, *bases), rng)
    for _ in range(int(rng.integers(0, 4))):
        data = one_of(rng, *(own if own and rng.random() < 0.6 else ANY))(data, rng)
    return data
