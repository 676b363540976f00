"""Damage to trees of plain values, such as JSON holds: other types, extremes, gaps, endless nesting."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from .damage import Random, one_of

_DEEP = "\0deep"  # stands for brackets in brackets, which json.dumps could not write
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 255, 1 << 31, 1 << 63, -(1 << 63), 10**30, 0.5, 1e308, -1e-300),
    *(float("nan"), float("inf"), "", "a", "0", "cpu", "float64", "float16", "\x1b[2J", "\x00", "\ud800"),
    *("../up", "é" * 200, "x" * 5000, [], {}, [[]], {"": None}, [0] * 3000, {"layer": "Sequential"}, _DEEP),
)


def mutated(tree: Any, rng: Random) -> Any:
    """A copy of a tree with one to three changes."""
    holder = [copy.deepcopy(tree)]
    for _ in range(int(rng.integers(1, 4))):
        _change(holder, rng)
    return holder[0]


def text(tree: Any) -> str:
    """A tree as JSON, with NaN and infinity as Python writes them."""
    written = json.dumps(tree, ensure_ascii=True)
    deep = json.dumps(_DEEP)
    return written.replace(deep, "[" * 100_000 + "]" * 100_000)


def in_json(data: bytes, rng: Random) -> bytes:
    """The same for a whole file; one that is no JSON any more stays as it is."""
    return changed_text(data.decode("utf-8", "replace"), rng).encode("utf-8", "surrogatepass")


def changed_text(written: str, rng: Random) -> str:
    try:
        return text(mutated(json.loads(written), rng))
    except (ValueError, RecursionError):
        return written


def _change(holder: list[Any], rng: Random) -> None:
    places: list[tuple[Any, Any]] = []
    _collect(holder, places.append)
    inside, key = places[rng.integers(len(places))]
    value = inside[key]
    match one_of(rng, "value", "value", "extreme", "drop", "rename", "wrap", "copy"):
        case "value":
            inside[key] = copy.deepcopy(one_of(rng, *_VALUES))
        case "extreme" if isinstance(value, int | float):
            inside[key] = one_of(rng, value * -1, value * 1000, value + 1, float(value), str(value), 1 << 40)
        case "drop" if inside is not holder:
            del inside[key]
        case "rename" if isinstance(inside, dict):
            inside[one_of(rng, "", "x", key + "x", key.upper())] = inside.pop(key)
        case "wrap":
            inside[key] = one_of(rng, [value], {"x": value}, {"dict": [["x", value]]}, {"array": value})
        case "copy":
            other, from_key = places[rng.integers(len(places))]
            inside[key] = copy.deepcopy(other[from_key])


def _collect(tree: Any, found: Callable[[tuple[Any, Any]], None]) -> None:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found((tree, key))
        _collect(value, found)
